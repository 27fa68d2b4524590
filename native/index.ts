/**
 * Typed face of the native addon (native/*.cc). Flat functions: numbers and buffers in and out, no policy.
 * Failures are Errors like Node's own: `code` ("ENOENT"), `errno` (negative), `syscall`, and `path` where there is one.
 * The calls of the page server, the layer server and HTTP/2 are declared beside their sources. Called from shim/,
 * snapshotter/ and, for a checkpoint's trial, cli/.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Http2Calls } from './http2.ts';
import type { LayerServerCalls } from './layer-server/calls.ts';
import type { PageServerCalls } from './page-server/calls.ts';

export interface ExitStatus {
  /** Exit code, or 128 + signal number if a signal ended the process. */
  code: number;
  /** Signal that ended it, 0 if it exited. */
  signal: number;
}

/** Of `writeChunk`: where to, what was stored, and what it must be. */
export type ChunkToWrite = [
  fd: number,
  offset: bigint,
  stored: Uint8Array,
  decodedLength: number,
  digest: Uint8Array,
  crc32: number,
  codec?: number,
];

export interface Addon extends Http2Calls, LayerServerCalls, PageServerCalls {
  /** pidfd_open(2). The descriptor is close-on-exec. */
  pidfdOpen(pid: number): number;
  pidfdSendSignal(pidfd: number, signal: number): void;
  /**
   * Waits for a child of this process (also an adopted one) and reaps it with waitid(P_PIDFD, WEXITED). The callback
   * runs once, never before this returns. Takes ownership of the descriptor, which is closed before the callback runs.
   * An error of ECHILD means the process is no child of ours (or somebody else reaped it); that is reported at once,
   * also while the process runs. Not for children of node:child_process, which reaps those itself.
   */
  pidfdWait(pidfd: number, done: (error: Error | null, status?: ExitStatus) => void): void;
  /**
   * Starts a program in a session, and so a process group, of its own: no handler, no blocked signal, no descriptor but
   * those given is inherited, and it gets SIGKILL when this process ends. `descriptors` become 0, 1, 2, …; -1 stands for
   * /dev/null. `environment` is "NAME=VALUE" strings, `directory` "" for ours, `openFiles` the soft RLIMIT_NOFILE, 0 for
   * ours. `file` is a path; nothing is looked up. Throws what the program could not be started for (ENOENT, EACCES, …).
   * The caller owns the pidfd and must wait for the process (pidfdWait).
   */
  spawn(
    file: string,
    args: readonly string[],
    environment: readonly string[],
    directory: string,
    descriptors: readonly number[],
    openFiles: number,
  ): { pid: number; pidfd: number };
  /** Signals the whole process group that a process leads. ESRCH where it has been reaped. */
  signalGroup(pidfd: number, pid: number, signal: number): void;
  /** memfd_create(2): an empty file in memory, close-on-exec. */
  memoryFile(): number;
  /** Reaps one zombie child by pid without waiting; undefined if it is not a zombie child. */
  reapZombie(pid: number): ExitStatus | undefined;
  /** prctl(PR_SET_CHILD_SUBREAPER). */
  setChildSubreaper(on: boolean): void;
  /** Direct children of this process over all its threads, from /proc/self/task/<tid>/children. */
  children(): number[];

  /**
   * mount(2) with numeric MS_* flags; empty strings stand for none. `data` of a page or more is refused with E2BIG: the
   * kernel would cut it silently.
   */
  mount(source: string, target: string, fstype: string, flags: number, data: string): void;
  /** umount2(2) with numeric MNT_* / UMOUNT_* flags. */
  umount(target: string, flags: number): void;
  /**
   * Mounts an overlay of any number of layers, topmost first, with fsopen/fsconfig (lowerdir+ per directory), or with
   * mount(2) where the kernel lacks it. Directory names may hold anything; one with ':', ',' or '\\', or of more than 255
   * bytes, shows as /proc/self/fd/N in mountinfo. Without an upper directory (both empty) the overlay is read-only.
   * `options` are those of the file system ("index=off") and ro, nosuid, nodev, noexec, noatime, nodiratime, relatime,
   * strictatime. Errors carry the target as path and, in the message, what overlayfs itself said.
   */
  mountOverlay(
    target: string,
    lowerDirs: string[],
    upperDir: string,
    workDir: string,
    options: string[],
  ): void;
  /**
   * Makes a block device of a file. The device goes when neither `fd`, which the caller closes, nor a mount has it open any
   * more. EBUSY if others take every device that is free.
   */
  loopAttach(file: string, readonly: boolean): { device: string; fd: number };
  /**
   * A user namespace of no process, for `mountMapped`. Maps are lines of "<inside> <outside> <count>", as user_namespaces(7)
   * has them; the caller closes the descriptor.
   */
  userNamespace(uidMap: string, gidMap: string): number;
  /**
   * Mounts the directory `source`, without what is mounted below it, on `target`, with its owners as the user namespace
   * maps them. `source` and `target` may be the same. EINVAL where the file system or the kernel (before 5.12) cannot.
   */
  mountMapped(source: string, target: string, userNamespace: number): void;

  /** pipe2(2): [read end, write end], close-on-exec. `nonblocking` applies to neither end of a child's stdio. */
  pipe(): [number, number];
  /** Another descriptor of the same open file, close-on-exec. */
  duplicate(fd: number): number;
  /** malloc_trim(3): gives what is free in the C heap back to the kernel. */
  trimMemory(): void;
  /** fchown(2). */
  fchown(fd: number, uid: number, gid: number): void;
  /**
   * Moves bytes from one descriptor to another in the addon's own thread (splice, or read/write where splice cannot)
   * until the source ends or the sink fails (EPIPE: it has no reader left). Owns both descriptors and closes them
   * before the callback runs, which gets the byte count, also beside an error. Returns an id for relayStop.
   *
   * Where splice cannot be used, descriptors other than regular files become O_NONBLOCK; that belongs to the open file,
   * so pass none that a container shares (the other end of a pipe is another open file). A fifo as source ends when its
   * last writer goes: hold a writer of your own to outlive writers. A full sink stops its own relay only.
   */
  relayStart(from: number, to: number, done: (error: Error | null, bytes?: bigint) => void): number;
  /**
   * Ends a relay early: what can be moved without waiting is still moved, up to a pipe's capacity or 1 MiB; what a full
   * sink does not take is lost. The callback of relayStart runs as usual. Unknown ids are ignored.
   */
  relayStop(id: number): void;
  /**
   * Says that nobody will write into the source any more: the relay ends as soon as it is empty, however long a full sink
   * makes it wait. For a pty's master, which has no end of its own: without an open slave (EIO) it only waits, since a
   * process may open the slave again. Unknown ids are ignored.
   */
  relayDrain(id: number): void;

  /** A listening unix socket, mode 0600, for runc's --console-socket. The caller removes the file. */
  consoleListen(path: string): number;
  /**
   * Takes one connection and the pty's master that comes through it (SCM_RIGHTS): exactly one descriptor, of a master.
   * Owns the listener, which is closed with the first connection. The callback runs once; the master is the caller's.
   * Errors: EPROTO or ENOTTY (something else came), ECONNRESET (nothing did), EPERM (another user), ECANCELED.
   */
  consoleReceive(listener: number, done: (error: Error | null, master?: number) => void): number;
  /** Ends the waiting with ECANCELED. Unknown ids are ignored. */
  consoleCancel(id: number): void;
  /** TIOCSWINSZ; 0 is allowed and means unknown. */
  setWindowSize(fd: number, columns: number, rows: number): void;

  /** mkfifo(3), mode 0600. */
  makeFifo(path: string): void;
  /**
   * Opens a fifo as its reader, which lets a writer that waits for one go on, and reads until the writer has closed it;
   * a writer may also come later. The callback gets the number of bytes. Returns an id for relayStop, with which the
   * callback gets what was there until then.
   */
  fifoRead(path: string, done: (error: Error | null, bytes?: bigint) => void): number;

  /**
   * Reads a small file (64 KiB) in a thread that has joined the namespaces; undefined if there is no such file. For
   * settings below /proc/sys, which show the reader's UTS and IPC namespaces. `namespaces` are paths like
   * /proc/PID/ns/uts.
   */
  readInNamespaces(path: string, namespaces: string[]): string | undefined;
  /** Writes an existing file in the same way. */
  writeInNamespaces(path: string, value: string, namespaces: string[]): void;
  /** A network namespace of no process, with nothing but loopback, which is up. It lives as long as somebody has it open. */
  networkNamespace(): number;
  /** Sets the loopback interface of the network namespace of that path up. */
  loopbackUp(network: string): void;
  /**
   * A TCP connection to 127.0.0.1 in the network namespace of that path, close-on-exec and non-blocking; waits 100 ms at
   * most (ETIMEDOUT).
   */
  connectInNamespace(network: string, port: number): number;

  /**
   * Registers for an event of a v1 cgroup (`file` is for example its memory.oom_control, `control` its
   * cgroup.event_control) and calls back each time the kernel signals it, which it also does when the cgroup is removed.
   * An error ends the watch. Returns a number for watchStop.
   */
  watchCgroupEvent(file: string, control: string, changed: (error: Error | null) => void): number;
  /**
   * Calls back with the text (64 KiB at most) of a file of kernfs, such as memory.events of a v2 cgroup: once at first and
   * then each time the kernel says that it has changed. An error ends the watch, such as EPERM
   * for a file that is none of kernfs. The removal of the file is not told. This waits with poll, which needs none of the few inotify instances of a user.
   */
  watchFile(path: string, changed: (error: Error | null, text?: string) => void): number;
  /**
   * Calls back with the names, a line each, of files in a directory that somebody has opened since (inotify, IN_OPEN; a name
   * once for each time). An error ends the watch: EOVERFLOW where names were lost. Returns a number for watchStop.
   */
  watchOpens(directory: string, opened: (error: Error | null, names?: string) => void): number;
  /** Ends a watch and closes its descriptor; it does not call back any more. Unknown numbers are ignored. */
  watchStop(id: number): void;

  /**
   * On a libuv worker: reads files of at most 1 MiB each, such as those of a cgroup, and gives the text of each in their
   * order, or the negative errno where one cannot be read. Meant for files that the kernel makes up.
   */
  readFiles(paths: string[]): Promise<(string | number)[]>;

  /**
   * On a libuv worker, one after the other: calls that change the file system, each of which may wait for its journal. A
   * record of `calls` is a group, what is done, the index of a path, and a value: 0 mkdir (mode), 1 chmod (mode), 2 chown
   * (user, and group shifted left by 32), 3 rename (index of the new path), 4 rmdir (nothing there is no failure).
   * After a failure what is left of its group is left out; groups follow one another. Answers the failures: index of a call,
   * negative errno, and so on.
   */
  fileCalls(paths: string[], calls: BigUint64Array): Promise<number[]>;
  /** SO_PEERCRED of a connected unix socket. */
  peerCredentials(fd: number): { pid: number; uid: number; gid: number };
  /** flock(2), non-blocking. False if somebody else holds it. */
  tryLock(fd: number, exclusive: boolean): boolean;
  /** CLOCK_REALTIME in nanoseconds. */
  realtime(): bigint;
  /**
   * openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS: `path` is opened below `directory`
   * without following any link. `mode` counts only where the flags create. Pass O_NONBLOCK too where the name might be
   * a fifo, which would block. Fails with EXDEV where the path leads out, with ELOOP where it meets a link.
   */
  openBeneath(directory: string, path: string, flags: number, mode: number): number;
  /** syncfs(2) on the file system that holds the descriptor. */
  syncfs(fd: number): void;

  /**
   * On a libuv worker: checks that `stored` has the SHA-256 `digest`, decodes it (`codec` 0: one LZ4 block if `stored` is
   * shorter than `decodedLength`, else as is; 1: one zstd frame; 2: planes; see checkpoint/chunk-table.ts), checks the CRC-32 of the result, and writes it at `offset`. Rejects with code
   * EBADMSG and a message naming which check failed; then nothing was written. An error of pwrite may leave a part.
   * `decodedLength` is 16 MiB at most. The descriptor is duplicated at once; `stored` must not change until it settles.
   */
  writeChunk(...chunk: ChunkToWrite): Promise<void>;
  /** As writeChunk, but in the calling thread, at once: throws what that rejects with. */
  writeChunkHere(...chunk: ChunkToWrite): void;
  /** pidfd_getfd(2): a descriptor of another process, as one of ours. */
  takeDescriptor(pid: number, descriptor: number): number;
  /**
   * process_madvise(2) with MADV_COLLAPSE on whole huge pages within pairs of start and end, on another thread. Resolves with
   * the bytes that are in huge pages now; memory that cannot be had so is left as it is. Rejects with ESRCH, ENOSYS (before
   * 5.10), EPERM or EBADF. With a descriptor of the process's /proc/PID/pagemap only where every small page is there: it
   * takes no more memory then. The descriptors are duplicated.
   */
  collapse(pidfd: number, ranges: BigUint64Array, pagemap?: number): Promise<bigint>;
  /**
   * Writes pages of `source` to `target` with that many threads, and answers with the bytes written; what is all zeros is not.
   * Pieces are triples of a position in the target in bytes, a first page of the source and a number of pages, in order of
   * the source. A target may be /proc/PID/mem: then it is the memory of that process and never another one's, and what
   * it takes is the process's own, also for its cgroup. Rejects with EIO where the source is too short, the process is gone or
   * the memory cannot be had. Both descriptors are duplicated.
   */
  copyPages(target: number, source: number, pieces: BigUint64Array, threads: number): Promise<bigint>;
  /**
   * Nanoseconds that a process pays, on this machine and in the middle, for its first touch of a small page that the kernel
   * has mapped already. Takes that some 30 times. Throws EINVAL where the kernel cannot map ahead (before 5.14).
   */
  touchCost(): number;
  /** socketpair(2), SOCK_SEQPACKET, close-on-exec. */
  messageSockets(): [number, number];
  /**
   * sync_file_range(2) on another thread: what is dirty in `length` bytes from `offset` on is handed to the disk and waited
   * for. Neither the file's metadata nor the disk's own cache: that takes an fsync. A failure is told only once, so an fsync
   * of this descriptor after it can succeed. Rejects with EIO, ENOSPC, EDQUOT, ESPIPE, EINVAL. The descriptor is duplicated.
   */
  writeBack(fd: number, offset: bigint, length: bigint): Promise<void>;
  /** One LZ4 block, synchronously. Throws EBADMSG unless it decodes to exactly `decodedLength` bytes. */
  decodeLz4(stored: Uint8Array, decodedLength: number): Buffer;
  /** As zlib's, which takes Node 4 ms to load. */
  crc32(bytes: Uint8Array): number;
}

function load(): Addon {
  const here = import.meta.dirname;
  // Beside the bundle on a node; in build/ in a checkout.
  const places = [join(here, 'thaw.node'), join(here, '../build/thaw.node')];
  const found = places.find((place) => existsSync(place));
  if (!found)
    throw new Error(`Cannot find the native addon; run "npm run build" (looked at ${places.join(', ')})`);
  return createRequire(import.meta.filename)(found) as Addon;
}

export const native: Addon = load();
