/** The EROFS image of a layer's names and attributes, a file beside its tar. */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileAt } from '../../checkpoint/lazy/erofs-reader.ts';
import type { CacheEntry } from '../cache/index.ts';

export function metadataFile({ directory }: Pick<CacheEntry, 'directory'>): string {
  return join(directory, 'metadata');
}

/** Written anew by each daemon: nobody checks what a power failure left of it. */
export async function writeMetadata(entry: CacheEntry, image: Buffer): Promise<void> {
  const path = metadataFile(entry);
  await writeFile(`${path}.new`, image, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/** The file whose content begins a frame, for people. */
export async function nameFile(entry: CacheEntry, frame: number): Promise<string | undefined> {
  if (entry.content.kind !== 'layer') return undefined;
  try {
    const image = await readFile(metadataFile(entry));
    const { frameBytes } = entry.content.index;
    return fileAt(image, frame * frameBytes) ?? fileAt(image, (frame + 1) * frameBytes - 1);
  } catch {
    return undefined;
  }
}
