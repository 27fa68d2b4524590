/**
 * What a layer looks like when containerd has unpacked it for overlayfs: whiteouts are character devices 0:0, opaque
 * directories have an attribute. Source: containerd, pkg/archive/tar.go (applyNaive) and tar_unix.go.
 */
import type { DirectoryFacts } from './merged-directories.ts';
import { type Time, unsuitable } from './tar-fields.ts';
import type { TarMember } from './tar-reader.ts';

interface NodeFacts {
  mode: number;
  uid: number;
  gid: number;
  mtime: Time;
  xattrs: ReadonlyMap<string, Buffer>;
}

export type TreeNode = NodeFacts &
  (
    | { kind: 'directory'; children: Map<string, TreeNode>; opaque: boolean }
    /** `offset`: of its content in the tar. */
    | { kind: 'file'; size: number; offset: number }
    | { kind: 'symlink'; target: string }
    | { kind: 'device'; type: 'char' | 'block'; major: number; minor: number }
    | { kind: 'fifo' }
  );

export type DirectoryNode = Extract<TreeNode, { kind: 'directory' }>;

/** A node that has several names is there several times. */
export interface LayerTree {
  root: DirectoryNode;
}

const WHITEOUT = '.wh.';
const WHITEOUT_META = '.wh..wh.';
const OPAQUE = '.wh..wh..opq';
/** Longest name, and symlink target, that Linux takes. */
const NAME_MAX = 255;
const PATH_MAX = 4095;

/** `below`: a directory of the layers below, for parents that the tar does not have. */
export async function layerTree(
  members: AsyncIterable<TarMember>,
  below: (path: readonly string[]) => DirectoryFacts | undefined,
): Promise<LayerTree> {
  const builder = new TreeBuilder(below);
  for await (const member of members) builder.add(member);
  return { root: builder.root };
}

class TreeBuilder {
  readonly root: DirectoryNode;
  readonly #below: (path: readonly string[]) => DirectoryFacts | undefined;

  constructor(below: (path: readonly string[]) => DirectoryFacts | undefined) {
    this.#below = below;
    this.root = this.#madeDirectory([]);
  }

  add(member: TarMember): void {
    const path = components(member.name);
    // Of AUFS alone.
    if (path.some((part) => part.startsWith(WHITEOUT_META) && part !== OPAQUE)) return;
    const base = path.pop();
    if (base === undefined) {
      if (member.type === 'directory') Object.assign(this.root, factsOf(member));
      return;
    }
    const parent = this.#parent(path);
    if (base === OPAQUE) parent.opaque = true;
    else if (base.startsWith(WHITEOUT)) this.#whiteOut(parent, base.slice(WHITEOUT.length), member);
    else this.#put(parent, base, member);
  }

  #put(parent: DirectoryNode, base: string, member: TarMember): void {
    if (base.length > NAME_MAX) throw unsuitable('a name in it is longer than 255 bytes');
    const existing = parent.children.get(base);
    if (member.type === 'directory' && existing?.kind === 'directory') {
      Object.assign(existing, factsOf(member));
      return;
    }
    parent.children.set(base, member.type === 'hardlink' ? this.#linked(member) : nodeOf(member));
  }

  /** It hides what is below the layer, never what the layer itself has. */
  #whiteOut(parent: DirectoryNode, name: string, member: TarMember): void {
    if (name === '' || name.length > NAME_MAX) throw unsuitable('a whiteout in it has no valid name');
    if (parent.children.has(name)) return;
    parent.children.set(name, {
      ...factsOf(member),
      mode: 0,
      xattrs: new Map(),
      kind: 'device',
      type: 'char',
      major: 0,
      minor: 0,
    });
  }

  /** The same inode under another name; containerd sets owner, time and attributes once more. */
  #linked(member: TarMember): TreeNode {
    let node: TreeNode | undefined = this.root;
    for (const name of components(member.linkName))
      node = node?.kind === 'directory' ? node.children.get(name) : undefined;
    if (!node || node.kind === 'directory')
      throw unsuitable('a hard link in it refers to what the layer does not have');
    const { uid, gid, mtime, xattrs } = member;
    return Object.assign(node, { uid, gid, mtime, xattrs: new Map([...node.xattrs, ...xattrs]) });
  }

  #parent(path: readonly string[]): DirectoryNode {
    let directory = this.root;
    for (const [depth, name] of path.entries()) {
      let child = directory.children.get(name);
      // containerd would follow a link here, which no tool that makes layers relies on.
      if (child && child.kind !== 'directory')
        throw unsuitable('a path in it leads through something that is no directory');
      if (!child) {
        child = this.#madeDirectory(path.slice(0, depth + 1));
        directory.children.set(name, child);
      }
      directory = child;
    }
    return directory;
  }

  #madeDirectory(path: readonly string[]): DirectoryNode {
    const { mode, uid, gid, mtime } = this.#below(path) ?? {
      mode: 0o755,
      uid: 0,
      gid: 0,
      mtime: { seconds: 0n, nanoseconds: 0 },
    };
    return {
      kind: 'directory',
      children: new Map(),
      opaque: false,
      mode,
      uid,
      gid,
      mtime,
      xattrs: new Map(),
    };
  }
}

function components(name: string): string[] {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw unsuitable('a path in it leads upwards');
  return parts;
}

function factsOf({ mode, uid, gid, mtime, xattrs }: TarMember): NodeFacts {
  return { mode, uid, gid, mtime, xattrs };
}

function nodeOf(member: TarMember): TreeNode {
  const facts = factsOf(member);
  switch (member.type) {
    case 'directory':
      return { ...facts, kind: 'directory', children: new Map(), opaque: false };
    case 'file':
      return { ...facts, kind: 'file', size: member.size, offset: member.offset };
    case 'symlink':
      if (member.linkName === '' || member.linkName.length > PATH_MAX)
        throw unsuitable('a symbolic link in it has no valid target');
      // A link has no mode of its own: Linux shows 0777.
      return { ...facts, mode: 0o777, kind: 'symlink', target: member.linkName };
    case 'char':
    case 'block': {
      const { type, major, minor } = member;
      return { ...facts, kind: 'device', type, major, minor };
    }
    case 'fifo':
      return { ...facts, kind: 'fifo' };
    case 'hardlink':
      throw new TypeError('a hard link is no node of its own');
  }
}
