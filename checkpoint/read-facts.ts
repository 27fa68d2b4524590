import { Code } from '../proto/status.ts';
import { digestOf } from './digest.ts';
import { CheckpointError } from './error.ts';
import { type CheckpointFacts, checkpointFactsSchema, FORMAT_VERSION } from './facts.ts';
import type { BlobRange } from './index-format.ts';
import { limits } from './limits.ts';

/**
 * Parses the bytes of `.thaw/checkpoint.json`. With `bound`, the index's range of it, length and digest are checked
 * first. Throws dataLoss for bytes that are not those or not JSON of the right shape, invalidArgument for an unknown
 * format version.
 */
export function readCheckpointFacts(bytes: Uint8Array, bound?: BlobRange): CheckpointFacts {
  if (bytes.byteLength > limits.checkpointJsonBytes) throw broken(`it has ${bytes.byteLength} bytes`);
  if (bound && (bytes.byteLength !== bound.length || digestOf(bytes) !== bound.digest))
    throw broken('its bytes are not those that the index names');
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw broken('it is no JSON', cause);
  }
  const version = versionOf(value);
  if (version !== FORMAT_VERSION)
    throw new CheckpointError(
      Code.invalidArgument,
      `Cannot read checkpoint.json: its format version is ${JSON.stringify(version)?.slice(0, 20)}, known here is ${FORMAT_VERSION}; use a newer thaw on this node`,
    );
  const parsed = checkpointFactsSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw broken(`${issue?.path.join('.') || 'the document'} is not as the format says`, parsed.error);
}

function versionOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'formatVersion' in value
    ? value.formatVersion
    : undefined;
}

function broken(why: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    Code.dataLoss,
    `Cannot read checkpoint.json: ${why}`,
    cause === undefined ? {} : { cause },
  );
}
