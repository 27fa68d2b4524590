/**
 * Typed face of the native addon (native/*.cc). Flat functions: numbers and buffers in and out, no policy.
 * Failures are Errors like Node's own: `code` ("ENOENT"), `errno` (negative), `syscall`, and `path` where there is one.
 * Called from shim/, snapshotter/ and, for a checkpoint's trial, cli/.
 */

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

export interface ExitStatus {
  /** Exit code, or 128 + signal number if a signal ended the process. */
  code: number;
  /** Signal that ended it, 0 if it exited. */
  signal: number;
}

/** A pages file of the node cache. */
export interface PagesFile {
  /** Stays the caller's. */
  fd: number;
  /** Bytes, a multiple of the page size. */
  size: bigint;
  /** Ordinal of its first chunk. */
  firstOrdinal: number;
  /** For each chunk: its first page, and how many. What no chunk covers is zero. */
  chunks: BigUint64Array;
}

/** A task whose memory is served. */
export interface PagedProcess {
  /** As in the images. */
  pid: number;
  /** Which of the files its pages lie in; -1 if it has none. */
  file: number;
  /** For each run: address, first page in the file, and how many pages. */
  pieces: BigUint64Array;
}

export type PageServerEvent =
  /** The guard outlives this process from now on. */
  | { kind: 'guard-ready' }
  | { kind: 'guard-lost' }
  /** CRIU is done: the processes run. */
  | { kind: 'restored' }
  /** A process waits for these chunks. */
  | { kind: 'wanted'; ordinals: number[] }
  /** Memory cannot be had right: the processes must be ended. */
  | { kind: 'failed'; error: Error }
  /** Nothing is left to serve. The last event. */
  | { kind: 'ended' };

export interface PageServerCounts {
  faults: number;
  /** Of memory that is zero in the checkpoint, or was given up since. */
  zeroFaults: number;
  faultBytes: number;
  drainedBytes: number;
  missingBytes: number;
  /** Address spaces that are served. */
  memories: number;
  /** Chunks in the order of the first fault in each. */
  touched: Uint32Array;
}

declare const layerServer: unique symbol;
export interface LayerServer {
  readonly [layerServer]: true;
}

declare const pageServer: unique symbol;
export interface PageServer {
  readonly [pageServer]: true;
}

declare const http2Handle: unique symbol;
/** One connection of `http2Open`. */
export interface Http2Handle {
  readonly [http2Handle]: true;
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

export interface Addon {
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
  /**
   * A server's end of an HTTP/2 connection, by nghttp2 (the library that Node has too). It does no I/O. `largestBody`: of a
   * request with more only the first bytes' number is known, and its body is null.
   */
  http2Open(largestBody: number): Http2Handle;
  /**
   * What a client sent, in any pieces. Answers four values for each request that is whole now: the stream's number, the path,
   * all fields as "name NUL value NUL …" (latin1), the body; and for each stream that ended before its answer its number and
   * three nulls. Throws EPROTO for what is no HTTP/2; then the connection is of no use any more.
   */
  http2Receive(handle: Http2Handle, bytes: Uint8Array): (number | string | Buffer | null)[];
  /**
   * Puts bytes behind those that a stream has to send. `headers`, as names and values in turn, go before the first; `trailers`
   * behind the last, and end the stream. Nothing of a stream that has ended.
   */
  http2Answer(
    handle: Http2Handle,
    stream: number,
    headers: readonly string[],
    bytes?: Uint8Array,
    trailers?: readonly string[],
  ): void;
  /** Bytes that a stream has still to send. */
  http2Queued(handle: Http2Handle, stream: number): number;
  /** Streams that have not ended. */
  http2Streams(handle: Http2Handle): number;
  /** What is to be sent now, as far as the client's windows allow, in pieces of some 256 KiB; undefined when that is all. */
  http2Take(handle: Http2Handle): Buffer | undefined;
  /** Tells the client to begin nothing new (GOAWAY). */
  http2Shutdown(handle: Http2Handle): void;

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
  /**
   * Serves a restore's memory from threads of its own: CRIU's lazy-pages protocol on the listening socket (duplicated),
   * then faults and a background drain in `order` (ordinals), then by address. `chunks` is the number of all ordinals;
   * none is present at first. `cgroups` are directories whose processes the guard ends with the container's; without
   * `drain` only what is faulted is copied until pageServerDrain. `report` is called until 'ended'; whatever happens, no
   * userfaultfd is closed while its process exists and lacks a page.
   */
  pageServerStart(
    listener: number,
    files: readonly PagesFile[],
    processes: readonly PagedProcess[],
    chunks: number,
    order: Uint32Array,
    cgroups: readonly string[],
    copiers: number,
    drain: boolean,
    report: (event: PageServerEvent) => void,
  ): PageServer;
  /** The socket of a guard, in place of one that is lost. Owns the descriptor. */
  pageServerGuard(server: PageServer, socket: number): void;
  /** A process for the guard to end. Owns the pidfd. */
  pageServerProcess(server: PageServer, pidfd: number): void;
  /** Chunks that are here: one bit an ordinal, lowest first. */
  pageServerPresent(server: PageServer, bits: Uint8Array): void;
  pageServerDrain(server: PageServer): void;
  /** The processes are being ended, or CRIU will not come: 'ended' follows as soon as they are gone. */
  pageServerFinish(server: PageServer): void;
  pageServerStats(server: PageServer): PageServerCounts;
  /**
   * What serves a FUSE mount: one directory, in which each lazy base layer's tar is a file. `device` is /dev/fuse, mounted
   * (duplicated, and made non-blocking for whoever else has it). `missing` is called for each read that waits for frames
   * `first` to `last` of a file; it goes on when layerServerAnswer has got its ticket. Nothing is answered before
   * layerServerStart.
   */
  layerServerOpen(
    device: number,
    missing: (node: number, first: number, last: number, ticket: number) => void,
  ): LayerServer;
  /**
   * Answers from threads of its own. What was asked while nobody served comes at once, and what is not known then does not
   * exist: files that may be open are added before.
   */
  layerServerStart(server: LayerServer, threads: number): void;
  /**
   * A file: `node` is its inode number, from 2 on, `present` has one bit a frame, lowest first. The descriptor is
   * duplicated. EEXIST where number or name is taken. With `records`, whoever opens it reads it anew, without what the page
   * cache had, and what is read from then on is noted.
   */
  layerServerAdd(
    server: LayerServer,
    node: number,
    name: string,
    fd: number,
    size: bigint,
    frameBytes: number,
    present: Uint8Array,
    records: boolean,
  ): void;
  /** What is read of it from now on fails with EIO. */
  layerServerRemove(server: LayerServer, node: number): void;
  /** A frame is verified and written. */
  layerServerPresent(server: LayerServer, node: number, frame: number): void;
  /** Of a file that records: its frames in the order in which they were first read since it was last opened. */
  layerServerReads(server: LayerServer, node: number): Uint32Array;
  /** With an errno, or 0 when the frames are here. Unknown tickets are ignored. */
  layerServerAnswer(server: LayerServer, ticket: number, error: number): void;
  /** Has the kernel send again what another server read and did not answer. EINVAL before Linux 6.9. */
  layerServerResend(server: LayerServer): void;
  /** Ends its threads; requests that wait are left to whoever serves the device next. */
  layerServerStop(server: LayerServer): void;
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
