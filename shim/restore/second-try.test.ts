import { expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { RestoreError } from './error.ts';
import { deservesSecondTry } from './second-try.ts';

const failure = (code: Code, context: Record<string, string>) => new RestoreError(code, 'x', { context });
const gpu = { phase: 'gpu' };

it.each([
  ['a GPU part that failed', failure(Code.resourceExhausted, gpu), 3_000, true],
  ['one that failed late', failure(Code.deadlineExceeded, gpu), 90_000, false],
  ['images that lack a process', failure(Code.dataLoss, gpu), 3_000, false],
  ['CRIU that failed', failure(Code.unknown, {}), 3_000, false],
  ['anything else', new Error('x'), 3_000, false],
])('%s: %#', (_, cause, tookMs, expected) => {
  expect(deservesSecondTry(cause, tookMs)).toBe(expected);
});
