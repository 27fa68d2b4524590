/**
 * The presence map on disk, in `present` beside a checkpoint's files, so that a fetch goes on where an earlier run of the
 * daemon was cut off. It is written only after the chunks that it names are on disk, and replaced whole. Layout:
 *
 *   0   8 bytes   "thawmap1"
 *   8   36 bytes  the kernel's boot id when it was written
 *   44  32 bytes  digest of the index
 *   76            one bit a chunk, lowest first
 *   end 4 bytes   CRC-32 of all before it, little-endian
 */
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { syncPath } from './image-files.ts';

export const PRESENCE_FILE = 'present';
const MAGIC = Buffer.from('thawmap1');
const BOOT_BYTES = 36;
const DIGEST_BYTES = 32;
const HEAD_BYTES = MAGIC.length + BOOT_BYTES + DIGEST_BYTES;
const CRC_BYTES = 4;

export interface SavedPresence {
  bootId: string;
  bits: Uint8Array;
}

export function encodePresence(id: string, { bootId, bits }: SavedPresence): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES + bits.length + CRC_BYTES);
  MAGIC.copy(bytes);
  bytes.write(bootId.padEnd(BOOT_BYTES), MAGIC.length, BOOT_BYTES, 'latin1');
  digestBytes(id).copy(bytes, MAGIC.length + BOOT_BYTES);
  bytes.set(bits, HEAD_BYTES);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -CRC_BYTES)), bytes.length - CRC_BYTES);
  return bytes;
}

/** Undefined if it is not the whole map of this checkpoint: whatever was here is fetched again. */
export function decodePresence(bytes: Buffer, id: string, chunkCount: number): SavedPresence | undefined {
  const length = HEAD_BYTES + Math.ceil(chunkCount / 8) + CRC_BYTES;
  if (bytes.length !== length || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  if (crc32(bytes.subarray(0, -CRC_BYTES)) !== bytes.readUInt32LE(length - CRC_BYTES)) return undefined;
  if (!bytes.subarray(MAGIC.length + BOOT_BYTES, HEAD_BYTES).equals(digestBytes(id))) return undefined;
  const bootId = bytes.toString('latin1', MAGIC.length, MAGIC.length + BOOT_BYTES).trimEnd();
  return { bootId, bits: new Uint8Array(bytes.subarray(HEAD_BYTES, -CRC_BYTES)) };
}

export async function savePresence(directory: string, id: string, saved: SavedPresence): Promise<void> {
  const path = join(directory, PRESENCE_FILE);
  const handle = await open(`${path}.new`, 'w', 0o600);
  try {
    await handle.writeFile(encodePresence(id, saved));
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(`${path}.new`, path);
  await syncPath(directory);
}

export async function loadPresence(
  directory: string,
  id: string,
  chunkCount: number,
): Promise<SavedPresence | undefined> {
  try {
    return decodePresence(await readFile(join(directory, PRESENCE_FILE)), id, chunkCount);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function digestBytes(id: string): Buffer {
  return Buffer.from(id.slice(id.indexOf(':') + 1), 'hex');
}
