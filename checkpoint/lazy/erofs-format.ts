/**
 * Structures of EROFS on disk. Source: Linux, fs/erofs/erofs_fs.h. All numbers are little-endian. Only what the image of
 * a layer needs: extended inodes, plain data, files of one chunk on the second device, attributes beside the inode.
 */
import type { TreeNode } from './layer-tree.ts';

/** Of a tar: the content of its members begins at multiples of it. */
export const BLOCK = 512;
/** Inode numbers count in these. */
export const SLOT = 32;
export const INODE_BYTES = 64;
export const CHUNK_INDEX_BYTES = 8;
export const DIRENT_BYTES = 12;

const MAGIC = 0xe0f5e1e2;
const SUPERBLOCK = 1024;
/** The table of devices lies right behind the superblock, in slots of 128 bytes. */
const DEVICE_SLOT = 9;
const DEVICE_SLOT_BYTES = 128;
/** First block of inodes. */
export const META_BLOCK = 3;
const INCOMPAT_CHUNKED_FILE = 0x4;
const INCOMPAT_DEVICE_TABLE = 0x8;
/** Extended inode, and where its data is. */
const EXTENDED = 1;
export const Layout = { plain: 0, chunked: 4 } as const;
const CHUNK_INDEXES = 0x20;
/** The one device beside the image: the layer's tar. */
const TAR_DEVICE = 1;
const XATTR_HEADER = 12;

const FILE_TYPE = { file: 1, directory: 2, char: 3, block: 4, fifo: 5, symlink: 7 } as const;
const MODE_TYPE = {
  file: 0o100000,
  directory: 0o040000,
  char: 0o020000,
  block: 0o060000,
  fifo: 0o010000,
  symlink: 0o120000,
} as const;

type Type = keyof typeof FILE_TYPE;

function typeOf(node: TreeNode): Type {
  return node.kind === 'device' ? node.type : node.kind;
}

export function fileType(node: TreeNode): number {
  return FILE_TYPE[typeOf(node)];
}

export interface SuperblockFacts {
  inodes: number;
  /** Of the image, and of the tar. */
  blocks: number;
  tarBlocks: number;
  /** 16 bytes. */
  uuid: Uint8Array;
}

/** At the beginning of the image; the root directory is the first inode. */
export function writeSuperblock(image: Buffer, { inodes, blocks, tarBlocks, uuid }: SuperblockFacts): void {
  const at = SUPERBLOCK;
  image.writeUInt32LE(MAGIC, at);
  image.writeUInt8(Math.log2(BLOCK), at + 12);
  image.writeUInt16LE(0, at + 14);
  image.writeBigUInt64LE(BigInt(inodes), at + 16);
  image.writeUInt32LE(blocks, at + 36);
  image.writeUInt32LE(META_BLOCK, at + 40);
  image.set(uuid, at + 48);
  image.writeUInt32LE(INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE, at + 80);
  image.writeUInt16LE(1, at + 86);
  image.writeUInt16LE(DEVICE_SLOT, at + 88);
  image.writeUInt32LE(tarBlocks, DEVICE_SLOT * DEVICE_SLOT_BYTES + 64);
}

export interface InodeFacts {
  node: TreeNode;
  layout: (typeof Layout)[keyof typeof Layout];
  /** Bytes of content, or of directory entries. */
  size: number;
  /** First block in the image, of what has plain data. */
  block: number;
  number: number;
  links: number;
  xattrs: Buffer;
}

export function writeInode(image: Buffer, at: number, facts: InodeFacts): void {
  const { node, layout, size, block, number, links, xattrs } = facts;
  image.writeUInt16LE(EXTENDED | (layout << 1), at);
  image.writeUInt16LE(xattrs.length === 0 ? 0 : (xattrs.length - XATTR_HEADER) / 4 + 1, at + 2);
  image.writeUInt16LE(MODE_TYPE[typeOf(node)] | node.mode, at + 4);
  image.writeBigUInt64LE(BigInt(size), at + 8);
  const bits = chunkBits(size);
  if (node.kind === 'device') image.writeUInt32LE(deviceNumber(node.major, node.minor), at + 16);
  else if (layout === Layout.chunked) image.writeUInt16LE(CHUNK_INDEXES | bits, at + 16);
  else image.writeUInt32LE(block, at + 16);
  image.writeUInt32LE(number, at + 20);
  image.writeUInt32LE(node.uid, at + 24);
  image.writeUInt32LE(node.gid, at + 28);
  image.writeBigInt64LE(node.mtime.seconds, at + 32);
  image.writeUInt32LE(node.mtime.nanoseconds, at + 40);
  image.writeUInt32LE(links, at + 44);
  xattrs.copy(image, at + INODE_BYTES);
  if (node.kind === 'file' && layout === Layout.chunked) {
    const index = chunkIndexOffset(at, xattrs.length);
    image.writeUInt16LE(TAR_DEVICE, index + 2);
    image.writeUInt32LE(node.offset / BLOCK, index + 4);
  }
}

export function chunkIndexOffset(inode: number, xattrBytes: number): number {
  return Math.ceil((inode + INODE_BYTES + xattrBytes) / CHUNK_INDEX_BYTES) * CHUNK_INDEX_BYTES;
}

/** A file lies in one piece in the tar, so one chunk as large as that is all of it. */
function chunkBits(size: number): number {
  let bits = 0;
  while (BLOCK * 2 ** bits < size) bits++;
  return bits;
}

/** Linux, new_encode_dev. */
function deviceNumber(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

const XATTR_PREFIXES: readonly (readonly [prefix: string, index: number])[] = [
  ['user.', 1],
  ['system.posix_acl_access', 2],
  ['system.posix_acl_default', 3],
  ['trusted.', 4],
  ['security.', 6],
];

/** The attributes of one inode as they stand behind it; empty without any. Undefined for one that EROFS has no place for. */
export function encodeXattrs(xattrs: ReadonlyMap<string, Buffer>): Buffer | undefined {
  if (xattrs.size === 0) return Buffer.alloc(0);
  const parts: Buffer[] = [Buffer.alloc(XATTR_HEADER)];
  for (const [name, value] of xattrs) {
    const known = XATTR_PREFIXES.find(([prefix]) => name.startsWith(prefix));
    const rest = known && Buffer.from(name.slice(known[0].length), 'latin1');
    if (!rest || rest.length > 255 || value.length > 0xffff) return undefined;
    const entry = Buffer.alloc(Math.ceil((4 + rest.length + value.length) / 4) * 4);
    entry.writeUInt8(rest.length, 0);
    entry.writeUInt8(known[1], 1);
    entry.writeUInt16LE(value.length, 2);
    rest.copy(entry, 4);
    value.copy(entry, 4 + rest.length);
    parts.push(entry);
  }
  return Buffer.concat(parts);
}
