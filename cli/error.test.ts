import { describe, expect, it } from 'vitest';
import { Code } from '../proto/status.ts';
import { CliError, errorLines, exitStatusOf, usageError } from './error.ts';

describe('errorLines()', () => {
  it('prints the message on one line, and each cause that says something new', () => {
    const cause = new Error('connect ENOENT', { cause: new Error('no such file') });
    const error = new CliError(Code.unavailable, 'Cannot reach it:\n start it', { cause });
    expect(errorLines(error)).toEqual([
      'thaw: Cannot reach it:; start it',
      '  cause: connect ENOENT',
      '  cause: no such file',
    ]);
  });
  it('leaves out a cause whose words are in the message already', () => {
    const error = new CliError(Code.notFound, 'Cannot do it: gone', { cause: new Error('gone') });
    expect(errorLines(error)).toEqual(['thaw: Cannot do it: gone']);
  });
  it('ends for a cause that refers to itself', () => {
    const error = new Error('again');
    error.cause = error;
    expect(errorLines(error)).toEqual(['thaw: again']);
  });
});

describe('exitStatusOf()', () => {
  it('tells failure, wrong usage and interruption apart', () => {
    expect(exitStatusOf(new Error('x'))).toBe(1);
    expect(exitStatusOf(usageError('x'))).toBe(2);
    expect(exitStatusOf(new CliError(Code.canceled, 'x'))).toBe(130);
  });
});
