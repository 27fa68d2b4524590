import { hash } from 'node:crypto';
import { Code } from '../proto/status.ts';
import { CheckpointError } from './error.ts';

const pattern = /^sha256:[0-9a-f]{64}$/;

/** "sha256:<64 lower-case hex digits>" of OCI image-spec; the one algorithm used here. */
export function isDigest(text: string): boolean {
  return pattern.test(text);
}

/** Throws invalidArgument unless `text` is a SHA-256 digest. `what` names it in the message. */
export function parseDigest(text: string, what: string): string {
  if (!isDigest(text))
    throw new CheckpointError(Code.invalidArgument, `Cannot use ${what}: it has no valid SHA-256 digest`, {
      context: { digest: text.slice(0, 100) },
    });
  return text;
}

/** Digest of bytes in memory. */
export function digestOf(bytes: Uint8Array | string): string {
  return `sha256:${hash('sha256', bytes, 'hex')}`;
}

/** Digest from the raw 32 bytes. */
export function digestFromBytes(bytes: Uint8Array): string {
  return `sha256:${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')}`;
}
