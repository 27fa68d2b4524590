/**
 * Directories of the layers below, as an overlay of them shows them. A layer's tar may lack the entries of parent
 * directories; containerd then gives them the owner, mode and time that they have below (archive.mkparent).
 */
import type { LayerTree, TreeNode } from './layer-tree.ts';
import { type Time, unsuitable } from './tar-fields.ts';

export interface DirectoryFacts {
  mode: number;
  uid: number;
  gid: number;
  mtime: Time;
}

interface Level extends DirectoryFacts {
  children: Map<string, Level>;
}

const NOTHING: DirectoryFacts = { mode: 0o755, uid: 0, gid: 0, mtime: { seconds: 0n, nanoseconds: 0 } };

export class MergedDirectories {
  readonly #root: Level = { ...NOTHING, children: new Map() };
  #complete = true;

  /**
   * `path`: components of the name. Undefined where no layer has such a directory. INVALID_ARGUMENT if nobody knows.
   */
  find(path: readonly string[]): DirectoryFacts | undefined {
    if (!this.#complete && path.length > 0)
      throw unsuitable('it lacks a parent directory, and a layer below could not be looked into');
    let level: Level | undefined = this.#root;
    for (const name of path) level = level?.children.get(name);
    return level;
  }

  /** A layer on top of which nothing is known. */
  addUnknown(): void {
    this.#complete = false;
  }

  /** Puts a layer on top. */
  add({ root }: LayerTree): void {
    merge(this.#root, root);
  }
}

function merge(below: Level, { mode, uid, gid, mtime, ...node }: TreeNode): void {
  Object.assign(below, { mode, uid, gid, mtime });
  if (node.kind !== 'directory') return;
  if (node.opaque) below.children.clear();
  for (const [name, child] of node.children) {
    if (child.kind !== 'directory') {
      below.children.delete(name);
      continue;
    }
    let level = below.children.get(name);
    if (!level) {
      level = { ...NOTHING, children: new Map() };
      below.children.set(name, level);
    }
    merge(level, child);
  }
}
