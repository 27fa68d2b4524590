/** Tars with everything that names and headers can have, built by hand: no library writes names that are not UTF-8. */
import { padded, TAR_BLOCK } from '../tar-header.ts';
import type { ReadAt } from './tar-reader.ts';

export interface TestMember {
  /** Bytes as latin1. */
  name: string;
  type?: string;
  content?: Buffer;
  linkName?: string;
  mode?: number;
  uid?: number;
  mtime?: number;
  device?: [major: number, minor: number];
  /** Records of a pax header before it; values as latin1. */
  pax?: Record<string, string>;
}

export function tarOf(members: readonly TestMember[], end = 2 * TAR_BLOCK): Buffer {
  const parts: Buffer[] = [];
  for (const member of members) {
    if (member.pax) {
      const records = Buffer.concat(Object.entries(member.pax).map(([key, value]) => record(key, value)));
      parts.push(header({ name: 'pax', type: 'x' }, records.length), filled(records));
    }
    const content = member.content ?? Buffer.alloc(0);
    parts.push(header(member, content.length), filled(content));
  }
  return Buffer.concat([...parts, Buffer.alloc(end)]);
}

export function readerOf(tar: Buffer): ReadAt {
  return async (offset, length) => tar.subarray(offset, offset + length);
}

function filled(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc(padded(content.length) - content.length)]);
}

function record(key: string, value: string): Buffer {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (`${length}${rest}`.length !== length) length = `${length}${rest}`.length;
  return Buffer.from(`${length}${rest}`, 'latin1');
}

function header(member: TestMember, size: number): Buffer {
  const { name, type = '0', linkName = '', mode = 0o644, uid = 0, mtime = 0, device } = member;
  const block = Buffer.alloc(TAR_BLOCK);
  const octal = (value: number, at: number, digits: number) =>
    block.write(value.toString(8).padStart(digits, '0'), at, 'latin1');
  block.write(name, 0, 100, 'latin1');
  octal(mode, 100, 7);
  octal(uid, 108, 7);
  octal(0, 116, 7);
  octal(size, 124, 11);
  octal(mtime, 136, 11);
  block.write('        ', 148, 'latin1');
  block.write(type, 156, 'latin1');
  block.write(linkName, 157, 100, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  octal(device?.[0] ?? 0, 329, 7);
  octal(device?.[1] ?? 0, 337, 7);
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  );
  block[154] = 0;
  return block;
}
