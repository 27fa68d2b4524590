/** What gRPC puts into HTTP/2: a prefix before each message, and a status behind the last. Source: grpc, doc/PROTOCOL-HTTP2.md. */
import { Code, describeError } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';

/** containerd's limit for messages in both directions. */
export const MAX_MESSAGE = 16 << 20;
/** One byte says whether the message is compressed, four how long it is. */
export const PREFIX_BYTES = 5;

/** Longer texts would be cut by somebody on the way. */
const MAX_DETAILS = 4096;

/** A failure of another server that is passed on with all it said. */
export class ForwardedError extends SnapshotError {
  /** Beside status and message. */
  readonly trailers: Readonly<Record<string, string>>;

  constructor(code: Code, message: string, trailers: Readonly<Record<string, string>>) {
    super(code, message);
    this.trailers = trailers;
  }
}

export function frameMessage(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, PREFIX_BYTES);
  return frame;
}

/** The one message of a request's body. */
export function readMessage(body: Buffer): Buffer {
  if (body.length < PREFIX_BYTES || body.readUInt32BE(1) !== body.length - PREFIX_BYTES)
    throw new SnapshotError(Code.internal, 'Cannot read the request: it is not one message');
  // No compression is offered (grpc-accept-encoding), so a client must use none.
  if (body[0] !== 0) throw new SnapshotError(Code.unimplemented, 'Cannot read the request: it is compressed');
  return body.subarray(PREFIX_BYTES);
}

/** As headers of an answer without a message, or as trailers behind some. */
export function failureHeaders(caught: unknown): Record<string, string> {
  const { code, message } = describeError(caught);
  const more = caught instanceof ForwardedError ? caught.trailers : {};
  return { ...more, 'grpc-status': String(code), 'grpc-message': encodeDetails(message) };
}

/** Percent-encoded UTF-8, but for visible ASCII and spaces. */
export function encodeDetails(message: string): string {
  const text = message.slice(0, MAX_DETAILS);
  if (/^[ -$&-~]*$/.test(text)) return text;
  return [...Buffer.from(text.toWellFormed(), 'utf8')]
    .map((byte) =>
      byte < 0x20 || byte > 0x7e || byte === 0x25
        ? `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
        : String.fromCharCode(byte),
    )
    .join('');
}

const UNITS_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

/** Milliseconds of a `grpc-timeout`; undefined where there is none. */
export function timeoutMs(header: string | string[] | undefined): number | undefined {
  const [, count, unit] = /^(\d{1,8})([HMSmun])$/.exec(String(header ?? '')) ?? [];
  return unit === undefined ? undefined : Number(count) * (UNITS_MS[unit] ?? 1);
}
