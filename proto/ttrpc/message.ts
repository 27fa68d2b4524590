/** Protobuf content of frames, as plain values. */
import { ttrpc } from '../gen/ttrpc.js';
import type { WireStatus } from './status.ts';

/** Keys are lower-case; a key may have several values. */
export type Metadata = Readonly<Record<string, readonly string[]>>;

export interface RequestMessage {
  service: string;
  method: string;
  payload: Uint8Array;
  /** Milliseconds from receipt on, or undefined for no deadline. */
  timeoutMs: number | undefined;
  metadata: Metadata;
}

export type ResponseMessage = { kind: 'ok'; payload: Uint8Array } | { kind: 'error'; status: WireStatus };

export function encodeRequest(request: RequestMessage): Uint8Array {
  return ttrpc.Request.encode({
    service: request.service,
    method: request.method,
    payload: request.payload,
    timeoutNano: request.timeoutMs === undefined ? 0 : Math.max(1, Math.round(request.timeoutMs * 1e6)),
    metadata: Object.entries(request.metadata).flatMap(([key, values]) =>
      values.map((value) => ({ key: key.toLowerCase(), value })),
    ),
  }).finish();
}

/** Throws on malformed bytes. */
export function decodeRequest(bytes: Uint8Array): RequestMessage {
  const request = ttrpc.Request.decode(bytes);
  const nanoseconds = Number(request.timeoutNano.toString());
  const metadata: Record<string, string[]> = Object.create(null);
  for (const { key, value } of request.metadata) {
    if (!key) continue;
    const name = key.toLowerCase();
    const values = metadata[name] ?? [];
    values.push(value ?? '');
    metadata[name] = values;
  }
  return {
    service: request.service,
    method: request.method,
    payload: request.payload,
    // A negative value is a deadline that had passed when the client sent the request.
    timeoutMs: nanoseconds === 0 ? undefined : Math.max(0, nanoseconds / 1e6),
    metadata,
  };
}

export function encodeResponse(response: ResponseMessage): Uint8Array {
  switch (response.kind) {
    case 'ok':
      return ttrpc.Response.encode({ payload: response.payload }).finish();
    case 'error':
      return ttrpc.Response.encode({ status: response.status }).finish();
  }
}

/** Throws on malformed bytes. */
export function decodeResponse(bytes: Uint8Array): ResponseMessage {
  const response = ttrpc.Response.decode(bytes);
  const { status } = response;
  if (status?.code) return { kind: 'error', status: { code: status.code, message: status.message ?? '' } };
  return { kind: 'ok', payload: response.payload };
}
