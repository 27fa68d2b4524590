/**
 * As much of HTTP/2 as gRPC over a local socket needs (RFC 9113 and 7541), for grpc/ and a bench's client. `connection.ts` is
 * a client's connection, `stream.ts` one call on it, `frames.ts`, `hpack.ts` and `huffman.ts` are how both look as bytes.
 */
export { Connection } from './connection.ts';
export { Flag, FrameType, frame } from './frames.ts';
export { encodeHeaders, HeaderDecoder } from './hpack.ts';
export type { Stream } from './stream.ts';
