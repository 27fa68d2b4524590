/** What a person can do about what CRIU could not save, out of its dump.log. Pure. */

/** CRIU's words and ours. The words are those of CRIU 4.2's binary; a version that changed them is only quoted. */
const ADVICE: readonly (readonly [RegExp, string])[] = [
  [
    /\(anon_inode:\[io_uring\]\)/,
    'a process uses io_uring, which cannot be saved: thaw denies it to containers without a seccomp profile, so look at the profile of this one, or at the annotation thaw.dev/io-uring of its pod',
  ],
  [
    /External socket is used|Can't dump half of stream unix connection|Can't dump name-less external socket/,
    'a process is connected to a Unix socket of a process outside of the container: it must close the connection before it is saved',
  ],
  [
    /A session leader of (?:zombie process )?\d+\(\d+\) is outside of its pid namespace/,
    'a process that was started by exec still runs, or left children: end it first',
  ],
  [
    /In-flight connection on non-listening socket|Non-empty write queue on an in-flight socket/,
    'a connection to a Unix socket was not accepted yet: try again when the container is at rest',
  ],
  [
    /GODEBUG=multipathtcp=0/,
    'a Go program uses MPTCP, which cannot be saved: start it with GODEBUG=multipathtcp=0',
  ],
  [
    /with SysVIPC shmem map @[\da-f]+ doesn't live in IPC ns/,
    "a process uses System V shared memory of its pod, which is not part of the container: it must use /dev/shm or memfd_create(2)'s",
  ],
  [
    /Can't dump ghost file .* size, increase limit/,
    'a large file that was deleted is still open: close it before it is saved',
  ],
];

export function dumpAdvice(log: string): string | undefined {
  return ADVICE.find(([pattern]) => pattern.test(log))?.[1];
}
