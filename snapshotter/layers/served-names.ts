/** Names and inode numbers of a layer's files in the FUSE mount. */

/** Inode numbers must be the same after a restart: the kernel keeps them. 48 bits of the digest, and never those below 2. */
export function nodeOf(id: string): number {
  return 2 + Number.parseInt(id.slice('sha256:'.length, 'sha256:'.length + 12), 16);
}

export function nameOf(id: string): string {
  return id.slice('sha256:'.length);
}

/** The same bytes under another inode: with pages of its own in the page cache, so that no read of it goes unnoticed. */
export function recordedNode(node: number): number {
  return node + 2 ** 48;
}

export function recordedName(name: string): string {
  return `${name}.recorded`;
}
