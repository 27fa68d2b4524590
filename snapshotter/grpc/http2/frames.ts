/** Frames of HTTP/2. Source: RFC 9113, sections 4, 6 and 7. */

export const FrameType = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** What a bit means depends on the frame's type. */
export const Flag = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 0x20 } as const;

export const Setting = { initialWindow: 4, maxFrame: 5 } as const;

export const ErrorCode = {
  none: 0,
  protocol: 1,
  flowControl: 3,
  frameSize: 6,
  compression: 9,
  enhanceYourCalm: 11,
} as const;

/** What a client must not send: the connection ends with it. */
export class Http2Error extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(`Cannot go on with a client's connection: ${message}`);
    this.name = 'Http2Error';
    this.code = code;
  }
}

export const HEAD_BYTES = 9;
/** Longest payload, unless a setting allows more. */
export const DEFAULT_FRAME = 16_384;
export const DEFAULT_WINDOW = 65_535;
export const MAX_WINDOW = 0x7fff_ffff;

/** `id`: of the stream, 0 for the connection. */
export function frame(type: number, flags: number, id: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(id, 5);
  bytes.set(payload, HEAD_BYTES);
  return bytes;
}

/** A block of headers, with what the client's longest frame cannot hold in frames of their own. */
export function headerFrames(id: number, block: Buffer, endStream: boolean, maxFrame: number): Buffer {
  const end = endStream ? Flag.endStream : 0;
  if (block.length <= maxFrame) return frame(FrameType.headers, end | Flag.endHeaders, id, block);
  const frames = [frame(FrameType.headers, end, id, block.subarray(0, maxFrame))];
  for (let at = maxFrame; at < block.length; at += maxFrame) {
    const flags = at + maxFrame < block.length ? 0 : Flag.endHeaders;
    frames.push(frame(FrameType.continuation, flags, id, block.subarray(at, at + maxFrame)));
  }
  return Buffer.concat(frames);
}

/** What is between the padding of a DATA or HEADERS frame. */
export function unpadded(flags: number, payload: Buffer): Buffer {
  if (!(flags & Flag.padded)) return payload;
  const end = payload.length - (payload[0] ?? 0);
  if (end < 1) throw new Http2Error(ErrorCode.protocol, 'a frame has more padding than it is long');
  return payload.subarray(1, end);
}
