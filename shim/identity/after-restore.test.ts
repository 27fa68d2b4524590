import { describe, expect, it } from 'vitest';
import { afterRestore, signalNumber } from './after-restore.ts';

const SIGNAL = 'thaw.dev/restored-signal';
const EXEC = 'thaw.dev/restored-exec';
const named = { 'io.kubernetes.cri.container-name': 'server' };
const saved = { signal: 'SIGHUP', exec: ['/saved'] };

describe('what is done after a restore', () => {
  it.each([
    [{}, {}, {}],
    [{}, saved, saved],
    [{ [SIGNAL]: 'USR1' }, {}, { signal: 'SIGUSR1' }],
    [{ [SIGNAL]: 'SIGUSR2' }, saved, { signal: 'SIGUSR2', exec: ['/saved'] }],
    [{ [EXEC]: '["/bin/resume","now"]' }, saved, { signal: 'SIGHUP', exec: ['/bin/resume', 'now'] }],
    [{ [SIGNAL]: '', [EXEC]: '' }, saved, {}],
    [{ ...named, [`${SIGNAL}.server`]: 'HUP', [SIGNAL]: 'USR1' }, {}, { signal: 'SIGHUP' }],
  ])('with the annotations %j and %j in the checkpoint is %j', (annotations, inCheckpoint, wanted) => {
    expect(afterRestore(annotations, inCheckpoint)).toEqual(wanted);
  });

  it.each([
    [{ [SIGNAL]: 'KILL' }, /restored-signal is "KILL"; use the name of a signal/],
    [{ [SIGNAL]: '10' }, /restored-signal/],
    [{ [EXEC]: '/bin/resume' }, /restored-exec is "\/bin\/resume"; use a JSON array/],
    [{ [EXEC]: '[1]' }, /restored-exec/],
    [{ [EXEC]: '[]' }, /restored-exec/],
  ])('with %j is refused in words', (annotations, message) => {
    expect(() => afterRestore(annotations)).toThrow(message);
  });

  it('with a signal that the checkpoint made up is refused', () => {
    expect(() => afterRestore({}, { signal: 'SIGNONE' })).toThrow(/SIGNONE/);
  });

  it('takes the numbers of this machine', () => {
    expect(signalNumber('SIGUSR1')).toBe(10);
  });
});
