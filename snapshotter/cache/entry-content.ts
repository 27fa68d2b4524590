/** What an entry of the node cache is made of, and its files beside the cached ones. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CheckpointIndex, decodeIndex } from '../../checkpoint/index-format.ts';
import { decodeLayerIndex, type LayerIndex } from '../../checkpoint/lazy/layer-index.ts';
import { readCheckpointFacts } from '../../checkpoint/read-facts.ts';

export type EntryContent =
  | { kind: 'checkpoint'; index: CheckpointIndex; json: Uint8Array }
  /** A lazy base layer. */
  | { kind: 'layer'; index: LayerIndex };

export const INDEX = 'index';
/** Of a checkpoint alone. */
export const CHECKPOINT_JSON = 'checkpoint.json';

export function checkpointContent(indexBytes: Uint8Array, json: Uint8Array): EntryContent {
  const index = decodeIndex(indexBytes);
  readCheckpointFacts(json, index.checkpointJson);
  return { kind: 'checkpoint', index, json };
}

export function layerContent(indexBytes: Uint8Array): EntryContent {
  return { kind: 'layer', index: decodeLayerIndex(indexBytes) };
}

/** Of a cache directory. The caller checks the index's digest. */
export async function readEntryFiles(
  directory: string,
): Promise<{ indexBytes: Uint8Array; content: EntryContent }> {
  const indexBytes = await readFile(join(directory, INDEX));
  const json = await readFile(join(directory, CHECKPOINT_JSON)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  // An index of one kind is none of the other: their first fields differ in type.
  return { indexBytes, content: json ? checkpointContent(indexBytes, json) : layerContent(indexBytes) };
}
