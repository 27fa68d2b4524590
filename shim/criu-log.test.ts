import { expect, it } from 'vitest';
import { criuErrors, criuSaid, withoutLogFile } from './criu-log.ts';

const log = `(00.001706) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.005899) Warn  (criu/cr-restore.c:1050): Set CLONE_PARENT | CLONE_NEWPID
(00.006768) Error (criu/mount.c:3141): mnt: No mapping for 198:(null) mountpoint
(00.007000)     12: Error (criu/files-reg.c:2300): File usr/lib/x.so has bad size 10 (expect 20)
(00.008575) Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file or directory
`;

it('quotes the errors that mean something, without CRIU source positions', () => {
  expect(criuErrors(log)).toEqual([
    'mnt: No mapping for 198:(null) mountpoint',
    'File usr/lib/x.so has bad size 10 (expect 20)',
  ]);
});

it('is empty for an empty or clean log', () => {
  expect(criuErrors('')).toEqual([]);
  expect(criuErrors('(00.1) Restore finished successfully. Tasks resumed.')).toEqual([]);
});

it('keeps the last ones', () => {
  expect(criuErrors(log, 1)).toEqual(['File usr/lib/x.so has bad size 10 (expect 20)']);
});

it('quotes the end of a log without errors', () => {
  expect(criuSaid(log)).toMatch(/^mnt: No mapping .*; File usr/);
  expect(criuSaid('(1) one\n(2) two\n(3) three\n(4) four\n')).toBe('(2) two; (3) three; (4) four');
});

it('names no log file that is gone by then', () => {
  expect(withoutLogFile('criu failed: type NOTIFY errno 0\nlog file: /b/work/criu/restore.log')).toBe(
    'criu failed: type NOTIFY errno 0',
  );
  expect(withoutLogFile('criu failed: type DUMP errno 3, log file: /x.log')).not.toContain('/x.log');
});
