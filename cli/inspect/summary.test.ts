import { describe, expect, it } from 'vitest';
import { processTree } from './summary.ts';

const process = (pid: number, ppid: number, comm: string, threads = 1) => ({ pid, ppid, comm, threads });

describe('processTree()', () => {
  it('puts children below their parents, in order', () => {
    const tree = processTree([
      process(1, 0, 'sh'),
      process(7, 1, 'python3', 9),
      process(8, 7, 'worker'),
      process(9, 1, 'tail'),
    ]);
    expect(tree).toEqual([
      '1 sh (1 thread)',
      '  7 python3 (9 threads)',
      '    8 worker (1 thread)',
      '  9 tail (1 thread)',
    ]);
  });
  it('shows what has no parent in the list, and ends for a loop', () => {
    expect(
      processTree([process(5, 4, 'a'), process(6, 7, 'b'), process(7, 6, 'c'), process(8, 8, 'd')]),
    ).toEqual(['5 a (1 thread)', '8 d (1 thread)', '6 b (1 thread)', '  7 c (1 thread)']);
  });
  it('shows a chain of any depth, and names that are safe to print', () => {
    const deep = Array.from({ length: 20_000 }, (_, i) => process(i + 1, i, 'x'));
    expect(processTree(deep)).toHaveLength(20_000);
    expect(processTree([process(1, 0, 'a\u001b[2J')])).toEqual(['1 a?[2J (1 thread)']);
  });
});
