/** Unix sockets of a dump that have a place in a file system. */
import { posix } from 'node:path';
import { criu } from '../../proto/gen/criu-rights.js';
import { decodeMessage } from './decode.ts';
import { Magic, readMessages } from './framing.ts';

/** Absolute paths, in the container; CRIU removes a socket that is there, and binds its own. `bytes`: files.img. */
export function socketPaths(bytes: Uint8Array): string[] {
  const name = 'files.img';
  const paths = readMessages(bytes, Magic.files, name).flatMap((message) => {
    const { usk } = decodeMessage(criu.OpenFile, message, name);
    const text = usk ? Buffer.from(usk.name).toString('utf8') : '';
    // An abstract name has no place.
    if (!usk || text === '' || text.startsWith('\0')) return [];
    return [posix.resolve('/', usk.nameDir || '/', text.replace(/\0.*$/s, ''))];
  });
  return [...new Set(paths)];
}
