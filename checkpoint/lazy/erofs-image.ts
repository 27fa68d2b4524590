/**
 * An EROFS image of a layer without the content of its files, which it looks for on a second device: the layer's tar. Our
 * own writer rather than mkfs.erofs, whose tar mode is missing in Debian 12, gives parents that the tar lacks modes of its
 * own, and would have to be on every machine that converts.
 */
import {
  BLOCK,
  CHUNK_INDEX_BYTES,
  chunkIndexOffset,
  DIRENT_BYTES,
  encodeXattrs,
  fileType,
  INODE_BYTES,
  Layout,
  META_BLOCK,
  SLOT,
  writeInode,
  writeSuperblock,
} from './erofs-format.ts';
import type { DirectoryNode, LayerTree, TreeNode } from './layer-tree.ts';
import { unsuitable } from './tar-fields.ts';

/** overlayfs hides what lies below such a directory. */
const OPAQUE: readonly [string, Buffer] = ['trusted.overlay.opaque', Buffer.from('y')];
const UUID_BYTES = 16;
/** Blocks are counted in 32 bits: 2 TiB. */
const MAX_TAR_BYTES = BLOCK * 2 ** 32;

interface Inode {
  node: TreeNode;
  number: number;
  links: number;
  xattrs: Buffer;
  /** Of the inode in the image. */
  at: number;
  /** In plain blocks: a symlink's target, or directory entries, which are written last. */
  dataBlock: number;
  dataBytes: number;
  /** Of a directory: its entries by block. */
  entries: Entry[][];
  parent: TreeNode;
}

interface Entry {
  name: Buffer;
  node: TreeNode;
}

/** The same tree always gives the same bytes. `tarBytes` and `diffId`: of the whole tar. */
export function erofsImage({ root }: LayerTree, tarBytes: number, diffId: string): Buffer {
  if (tarBytes > MAX_TAR_BYTES) throw unsuitable('its tar is larger than 2 TiB');
  const inodes = collect(root);
  const end = place(inodes);
  const image = Buffer.alloc(end);
  writeSuperblock(image, {
    inodes: inodes.size,
    blocks: end / BLOCK,
    tarBlocks: Math.ceil(tarBytes / BLOCK),
    // Without one, overlayfs does not find out where a copied-up file came from by any name but the first, and two hard links
    // of it have different inode numbers (fs/overlayfs, ovl_lower_uuid_ok).
    uuid: Buffer.from(diffId.slice('sha256:'.length), 'hex').subarray(0, UUID_BYTES),
  });
  for (const inode of inodes.values()) {
    const { node, number, links, xattrs, at, dataBlock } = inode;
    const chunked = node.kind === 'file' && node.size > 0;
    const layout = chunked ? Layout.chunked : Layout.plain;
    const size = node.kind === 'file' ? node.size : inode.dataBytes;
    writeInode(image, at, { node, layout, size, block: dataBlock, number, links, xattrs });
    if (node.kind === 'symlink') image.write(node.target, dataBlock * BLOCK, 'latin1');
    else if (node.kind === 'directory') writeEntries(image, inode, inodes);
  }
  return image;
}

/** Every inode once, directories before what is in them, so that neighbours in the tree are neighbours in the image. */
function collect(root: DirectoryNode): Map<TreeNode, Inode> {
  const inodes = new Map<TreeNode, Inode>();
  const add = (node: TreeNode, parent: TreeNode): void => {
    const xattrs = encodeXattrs(
      node.kind === 'directory' && node.opaque ? new Map([...node.xattrs, OPAQUE]) : node.xattrs,
    );
    if (!xattrs) throw unsuitable('an extended attribute in it cannot be stored in EROFS');
    const dataBytes = node.kind === 'symlink' ? node.target.length : 0;
    const number = inodes.size + 1;
    inodes.set(node, { node, number, links: 1, xattrs, at: 0, dataBlock: 0, dataBytes, entries: [], parent });
  };
  add(root, root);
  const pending: DirectoryNode[] = [root];
  for (let directory = pending.pop(); directory; directory = pending.pop()) {
    const own = inodes.get(directory) as Inode;
    own.links = 2;
    for (const child of directory.children.values()) {
      const known = inodes.get(child);
      if (known) known.links++;
      else add(child, directory);
      if (child.kind !== 'directory') continue;
      own.links++;
      pending.push(child);
    }
    own.entries = entryBlocks(directory, own.parent);
    own.dataBytes = bytesOf(own.entries);
  }
  return inodes;
}

/** Entries of a block never reach into the next one; within a directory they ascend by their bytes. */
function entryBlocks(directory: DirectoryNode, parent: TreeNode): Entry[][] {
  const entries: Entry[] = [
    { name: Buffer.from('.'), node: directory },
    { name: Buffer.from('..'), node: parent },
  ];
  for (const [name, node] of directory.children) entries.push({ name: Buffer.from(name, 'latin1'), node });
  entries.sort((a, b) => Buffer.compare(a.name, b.name));
  const blocks: Entry[][] = [];
  let room = 0;
  for (const entry of entries) {
    const bytes = DIRENT_BYTES + entry.name.length;
    if (bytes > room) {
      blocks.push([]);
      room = BLOCK;
    }
    blocks.at(-1)?.push(entry);
    room -= bytes;
  }
  return blocks;
}

function bytesOf(blocks: readonly Entry[][]): number {
  const last = blocks.at(-1) ?? [];
  const used = last.reduce((sum, { name }) => sum + DIRENT_BYTES + name.length, 0);
  return (blocks.length - 1) * BLOCK + used;
}

/** Gives every inode its place, then their data. Answers the size of the image. */
function place(inodes: ReadonlyMap<TreeNode, Inode>): number {
  let at = META_BLOCK * BLOCK;
  for (const inode of inodes.values()) {
    inode.at = at;
    const { node, xattrs } = inode;
    const inodeEnd =
      node.kind === 'file' && node.size > 0
        ? chunkIndexOffset(at, xattrs.length) + CHUNK_INDEX_BYTES
        : at + INODE_BYTES + xattrs.length;
    at = Math.ceil(inodeEnd / SLOT) * SLOT;
  }
  let block = Math.ceil(at / BLOCK);
  for (const inode of inodes.values()) {
    if (inode.dataBytes === 0) continue;
    inode.dataBlock = block;
    block += Math.ceil(inode.dataBytes / BLOCK);
  }
  return block * BLOCK;
}

/** In each block: the entries, then their names in the same order. */
function writeEntries(
  image: Buffer,
  { entries, dataBlock }: Inode,
  inodes: ReadonlyMap<TreeNode, Inode>,
): void {
  for (const [i, block] of entries.entries()) {
    const start = (dataBlock + i) * BLOCK;
    let nameOffset = block.length * DIRENT_BYTES;
    for (const [k, { name, node }] of block.entries()) {
      const at = start + k * DIRENT_BYTES;
      const inode = inodes.get(node) as Inode;
      image.writeBigUInt64LE(BigInt((inode.at - META_BLOCK * BLOCK) / SLOT), at);
      image.writeUInt16LE(nameOffset, at + 8);
      image.writeUInt8(fileType(node), at + 10);
      name.copy(image, start + nameOffset);
      nameOffset += name.length;
    }
  }
}
