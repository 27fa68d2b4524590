/** What native.writeChunk does, for chunks that are stored as they are. */
import { hash } from 'node:crypto';
import { write } from 'node:fs';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import type { WriteChunk } from './cache/index.ts';

const writeAsync = promisify(write);

export const writeStoredChunk: WriteChunk = async (fd, offset, stored, decodedLength, digest, crc) => {
  const wrong =
    hash('sha256', stored, 'hex') !== Buffer.from(digest).toString('hex') ||
    stored.byteLength !== decodedLength ||
    crc32(stored) !== crc;
  if (wrong) throw Object.assign(new Error('EBADMSG: SHA-256 differs'), { code: 'EBADMSG' });
  await writeAsync(fd, stored, 0, stored.byteLength, Number(offset));
};
