/**
 * Members of a tar that lies on disk: ustar, GNU and pax, as Go's archive/tar reads them for containerd. Names are bytes
 * (latin1 strings), because file systems take any. Content is not read, only its place given.
 */
import { padded, TAR_BLOCK } from '../tar-header.ts';
import {
  hasRightSum,
  number,
  paxInteger,
  paxRecords,
  paxTime,
  type Time,
  text,
  unsuitable,
} from './tar-fields.ts';

export interface TarMember {
  name: string;
  type: 'file' | 'hardlink' | 'symlink' | 'char' | 'block' | 'directory' | 'fifo';
  /** Target of a link. */
  linkName: string;
  /** The lowest twelve bits. */
  mode: number;
  uid: number;
  gid: number;
  mtime: Time;
  major: number;
  minor: number;
  /** By full name ("security.capability"). */
  xattrs: ReadonlyMap<string, Buffer>;
  /** Of a file. */
  size: number;
  /** Where its content begins in the tar, a multiple of 512. */
  offset: number;
}

/** Bytes of the tar; fewer only at its end. */
export type ReadAt = (offset: number, length: number) => Promise<Buffer>;

const XATTR = 'SCHILY.xattr.';
/** Extended headers of a member, together. */
const MAX_EXTENDED = 1 << 20;

/** INVALID_ARGUMENT for what is no tar, or has members that cannot be read in place (sparse ones). */
export async function* readTar(read: ReadAt): AsyncGenerator<TarMember> {
  let pax: Map<string, Buffer> = new Map();
  let longName: string | undefined;
  let longLink: string | undefined;
  for (let at = 0; ; ) {
    const block = await read(at, TAR_BLOCK);
    if (block.length === 0) return;
    if (block.length < TAR_BLOCK) throw unsuitable('its tar is cut off');
    if (block.every((byte) => byte === 0)) return;
    if (!hasRightSum(block)) throw unsuitable('a header in its tar has a wrong sum');
    const type = String.fromCharCode(block[156] as number);
    const size =
      pax.has('size') && !isExtended(type) ? paxInteger(pax.get('size') as Buffer) : number(block, 124, 12);
    if (size < 0) throw unsuitable('a member of its tar has a negative size');
    const offset = at + TAR_BLOCK;
    if (isExtended(type)) {
      if (size > MAX_EXTENDED) throw unsuitable('a header in its tar is too long');
      const bytes = await read(offset, size);
      if (bytes.length < size) throw unsuitable('its tar is cut off');
      // Global records ("g") are left alone, as containerd does.
      if (type === 'x') pax = paxRecords(bytes);
      else if (type === 'L') longName = text(bytes, 0, bytes.length);
      else if (type === 'K') longLink = text(bytes, 0, bytes.length);
      at = offset + padded(size);
      continue;
    }
    const member = memberOf(block, type, { pax, longName, longLink, size, offset });
    yield member;
    at = offset + (member.type === 'file' ? padded(size) : 0);
    pax = new Map();
    longName = undefined;
    longLink = undefined;
  }
}

function isExtended(type: string): boolean {
  return type === 'x' || type === 'g' || type === 'L' || type === 'K';
}

interface Around {
  pax: Map<string, Buffer>;
  longName: string | undefined;
  longLink: string | undefined;
  size: number;
  offset: number;
}

function memberOf(block: Buffer, flag: string, { pax, longName, longLink, size, offset }: Around): TarMember {
  for (const key of pax.keys())
    if (key.startsWith('GNU.sparse.')) throw unsuitable('a file in its tar is stored sparse');
  const latin1 = (key: string) => pax.get(key)?.toString('latin1');
  const name = latin1('path') ?? longName ?? plainName(block);
  const type = typeOf(flag, name);
  const xattrs = new Map(
    [...pax].filter(([key]) => key.startsWith(XATTR)).map(([key, value]) => [key.slice(XATTR.length), value]),
  );
  const integer = (key: string, at: number) => {
    const stated = pax.get(key);
    return stated === undefined ? number(block, at, 8) : paxInteger(stated);
  };
  const mtime = pax.get('mtime');
  return {
    name,
    type,
    linkName: latin1('linkpath') ?? longLink ?? text(block, 157, 100),
    mode: number(block, 100, 8) & 0o7777,
    uid: integer('uid', 108),
    gid: integer('gid', 116),
    mtime: mtime === undefined ? { seconds: BigInt(number(block, 136, 12)), nanoseconds: 0 } : paxTime(mtime),
    major: type === 'char' || type === 'block' ? number(block, 329, 8) : 0,
    minor: type === 'char' || type === 'block' ? number(block, 337, 8) : 0,
    xattrs,
    size: type === 'file' ? size : 0,
    offset,
  };
}

/** GNU's old format has other things where ustar has the prefix. */
function plainName(block: Buffer): string {
  const name = text(block, 0, 100);
  const prefix = block.toString('latin1', 257, 263) === 'ustar\0' ? text(block, 345, 155) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

function typeOf(flag: string, name: string): TarMember['type'] {
  switch (flag) {
    case '0':
    case '7':
      return 'file';
    case '\0':
      return name.endsWith('/') ? 'directory' : 'file';
    case '1':
      return 'hardlink';
    case '2':
      return 'symlink';
    case '3':
      return 'char';
    case '4':
      return 'block';
    case '5':
      return 'directory';
    case '6':
      return 'fifo';
    case 'S':
      throw unsuitable('a file in its tar is stored sparse');
    default:
      throw unsuitable(`its tar has a member of type "${flag}"`);
  }
}
