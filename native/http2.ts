/** Typed face of http2.cc. */

declare const http2Handle: unique symbol;
/** One connection of `http2Open`. */
export interface Http2Handle {
  readonly [http2Handle]: true;
}

export interface Http2Calls {
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
}
