/** Errors of calls. A ttrpc status is a google.rpc.Status; success has none. */
import { Code, CodedError, describeError } from '../status.ts';

/** A failed call, on either side. On the client, `code` and `message` are those that the server sent. */
export class TtrpcError extends CodedError {}

export interface WireStatus {
  code: number;
  message: string;
}

export function toWireStatus(caught: unknown): WireStatus {
  const { code, message } = describeError(caught);
  return { code: code === Code.ok ? Code.unknown : code, message };
}

export function fromWireStatus(status: WireStatus, service: string, method: string): TtrpcError {
  return new TtrpcError(knownCode(status.code), status.message, { context: { service, method } });
}

function knownCode(value: number): Code {
  return Object.values(Code).find((code) => code === value && code !== Code.ok) ?? Code.unknown;
}
