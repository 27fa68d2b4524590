/** Bytes of a tar block: headers are one, contents are padded to it. */
export const TAR_BLOCK = 512;
/** Two zero blocks end an archive. */
export const TAR_END_BYTES = 2 * TAR_BLOCK;

export interface TarEntry {
  /** At most 100 bytes of ASCII. A directory's ends with "/". */
  name: string;
  type: 'file' | 'directory';
  mode: number;
  /** Bytes of content; 0 for a directory. Below 8 GiB. */
  size: number;
}

/** Bytes of content rounded up to whole blocks. */
export function padded(size: number): number {
  return Math.ceil(size / TAR_BLOCK) * TAR_BLOCK;
}

/**
 * One POSIX ustar header. Owner root, time 0, so that equal contents make equal layers.
 * Source: POSIX.1-2017, pax, "ustar Interchange Format".
 */
export function tarHeader(entry: TarEntry): Buffer {
  if (entry.name.length > 100) throw new RangeError(`tar name of ${entry.name.length} bytes`);
  if (!Number.isInteger(entry.size) || entry.size < 0 || entry.size >= 8 ** 11)
    throw new RangeError(`tar entry of ${entry.size} bytes`);
  const block = Buffer.alloc(TAR_BLOCK);
  const octal = (value: number, at: number, digits: number) =>
    block.write(value.toString(8).padStart(digits, '0'), at, 'ascii');
  block.write(entry.name, 0, 'ascii');
  octal(entry.mode, 100, 7);
  octal(0, 108, 7);
  octal(0, 116, 7);
  octal(entry.size, 124, 11);
  octal(0, 136, 11);
  block.write('        ', 148, 'ascii');
  block.write(entry.type === 'directory' ? '5' : '0', 156, 'ascii');
  block.write('ustar\0', 257, 'ascii');
  block.write('00', 263, 'ascii');
  block.write('root', 265, 'ascii');
  block.write('root', 297, 'ascii');
  octal(0, 329, 7);
  octal(0, 337, 7);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'ascii');
  return block;
}
