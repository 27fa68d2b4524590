/**
 * The layer annotation by which a node finds the index. containerd hands annotations with the prefix
 * `containerd.io/snapshot/` to the snapshotter as labels of Prepare.
 */
import { Code } from '../proto/status.ts';
import { isDigest } from './digest.ts';
import { CheckpointError } from './error.ts';
import { limits } from './limits.ts';

/** On every checkpoint layer's descriptor, the index layer's included. */
export const INDEX_ANNOTATION = 'containerd.io/snapshot/thaw.index';

/** Where the index lies: a byte range of the index layer's blob. */
export interface IndexLocation {
  /** Digest of the index layer's blob. */
  blob: string;
  /** Byte offset in that blob. */
  offset: number;
  /** Bytes. */
  length: number;
  /** Digest of those bytes; also the checkpoint's name on a node. */
  digest: string;
}

export function formatIndexAnnotation(location: IndexLocation): string {
  return `v1,${location.blob},${location.offset},${location.length},${location.digest}`;
}

/** Throws invalidArgument for anything but version 1 in exactly the form that formatIndexAnnotation writes. */
export function parseIndexAnnotation(text: string): IndexLocation {
  const fail = (why: string) =>
    new CheckpointError(Code.invalidArgument, `Cannot read the checkpoint annotation: ${why}`, {
      context: { annotation: text.slice(0, 300) },
    });
  const [version, blob, offsetText, lengthText, digest, ...rest] = text.split(',');
  if (version !== 'v1')
    throw fail(`version "${(version ?? '').slice(0, 20)}" is not known here; use a newer thaw on this node`);
  if (blob === undefined || offsetText === undefined || lengthText === undefined || digest === undefined)
    throw fail('it has too few fields');
  if (rest.length > 0) throw fail('it has too many fields');
  if (!isDigest(blob) || !isDigest(digest)) throw fail('it has no valid SHA-256 digest');
  const offset = decimal(offsetText);
  const length = decimal(lengthText);
  if (offset === undefined || length === undefined) throw fail('its offset or length is not a number');
  if (length === 0 || length > limits.indexBytes)
    throw fail(`its length is not in 1 to ${limits.indexBytes}`);
  if (!Number.isSafeInteger(offset + length)) throw fail('its offset is out of range');
  return { blob, offset, length, digest };
}

function decimal(text: string): number | undefined {
  if (!/^(0|[1-9][0-9]{0,15})$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}
