import { expect, it } from 'vitest';
import { dumpAdvice } from './dump-advice.ts';

it.each([
  ['Unknown shit 600 (anon_inode:[io_uring])', 'thaw.dev/io-uring'],
  ['unix: External socket is used. Consider using --ext-unix-sk option.', 'outside of the container'],
  ['A session leader of 12(1) is outside of its pid namespace', 'started by exec'],
  ['unix: In-flight connection on non-listening socket 7', 'not accepted yet'],
  [
    'inet: For Go programs, consider using "GODEBUG=multipathtcp=0" to disable MPTCP',
    'GODEBUG=multipathtcp=0',
  ],
  ["Task 12 with SysVIPC shmem map @7f00 doesn't live in IPC ns", 'System V shared memory'],
  ["Can't dump ghost file /tmp/x of 99 size, increase limit", 'deleted is still open'],
])('%s', (said, advice) => {
  expect(dumpAdvice(`(00.1) pie: 1\n(00.012345) Error (criu/files.c:1): ${said}\n`)).toContain(advice);
});

it('has none for what it does not know', () => {
  expect(
    dumpAdvice('(00.012345) Error (criu/files.c:1): Unknown shit 600 (anon_inode:[other])'),
  ).toBeUndefined();
});
