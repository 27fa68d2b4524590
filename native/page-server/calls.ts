/** Typed face of the page server, which serves the memory of restored processes. */

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

declare const pageServer: unique symbol;
export interface PageServer {
  readonly [pageServer]: true;
}

export interface PageServerCalls {
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
}
