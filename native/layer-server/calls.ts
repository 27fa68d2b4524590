/** Typed face of the layer server, the FUSE server of lazy base layers. */

declare const layerServer: unique symbol;
export interface LayerServer {
  readonly [layerServer]: true;
}

export interface LayerServerCalls {
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
}
