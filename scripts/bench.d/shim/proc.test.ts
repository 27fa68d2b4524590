import { expect, test } from 'vitest';
import { parseCpuStat } from './cpu.ts';
import { descriptorsOf, family, memoryOf, nodeProcesses, parentOf, parseRollup } from './proc.ts';

const rollup = `55e0-7ffd ---p 00000000 00:00 0    [rollup]
Rss:               42000 kB
Pss:               10240 kB
Pss_Dirty:          9000 kB
Shared_Clean:      30000 kB
Shared_Dirty:          0 kB
Private_Clean:      1000 kB
Private_Dirty:      8000 kB
`;

test('private memory is clean and dirty, proportional memory is Pss', () => {
  expect(parseRollup(rollup)).toEqual({ privateBytes: 9000 * 1024, pss: 10240 * 1024 });
  expect(() => parseRollup('Rss: 1 kB\n')).toThrow('No Private_Clean');
});

test('this process is measured, in sum as often as it is named', () => {
  const one = memoryOf([process.pid]);
  expect(one.privateBytes).toBeGreaterThan(1e6);
  expect(descriptorsOf([process.pid, process.pid])).toBeGreaterThan(descriptorsOf([process.pid]));
});

test('this process is found with its parent', () => {
  expect(parentOf(process.pid)).toBe(process.ppid);
  expect(nodeProcesses()).toContainEqual({ pid: process.pid, parent: process.ppid });
});

test('a family is a process, its children and theirs', () => {
  const processes = [
    { pid: 1, parent: 0 },
    { pid: 2, parent: 1 },
    { pid: 3, parent: 2 },
    { pid: 4, parent: 1 },
    { pid: 5, parent: 3 },
  ];
  expect(family(2, processes)).toEqual([2, 3, 5]);
});

test('processor time is read from cgroup v2 too', () => {
  expect(parseCpuStat('usage_usec 2500\nuser_usec 2000\nsystem_usec 500\n')).toBe(2.5);
});
