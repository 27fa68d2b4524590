/**
 * Mounts that give a snapshot's file system: bind or overlay, as containerd's overlayfs snapshotter gives them. Nothing
 * that containerd 1.6 does not know (no mount-manager types, no targets).
 */
import { join } from 'node:path';
import type { Kind } from '../store/index.ts';

export interface Mount {
  type: 'bind' | 'overlay';
  source: string;
  options: string[];
}

export interface MountLayout {
  kind: Exclude<Kind, 'committed'>;
  /** Directories below snapshots/: the snapshot's own, and those below it, nearest first. */
  directory: number;
  parents: readonly number[];
}

export function fsDirectory(snapshots: string, id: number): string {
  return join(snapshots, String(id), 'fs');
}

export function workDirectory(snapshots: string, id: number): string {
  return join(snapshots, String(id), 'work');
}

export interface OverlayMountOptions {
  /** Of every overlay mount. */
  all: readonly string[];
  /** Of those with an upper directory. */
  writable: readonly string[];
}

export function mountsOf(snapshots: string, layout: MountLayout, extra: OverlayMountOptions): Mount[] {
  const { kind, directory, parents } = layout;
  const fs = (id: number) => fsDirectory(snapshots, id);
  const [nearest] = parents;
  // Overlay cannot do without a lower directory.
  if (nearest === undefined)
    return [{ type: 'bind', source: fs(directory), options: [kind === 'view' ? 'ro' : 'rw', 'rbind'] }];
  if (kind === 'view' && parents.length === 1)
    return [{ type: 'bind', source: fs(nearest), options: ['ro', 'rbind'] }];
  const options = [...extra.all];
  if (kind === 'active')
    options.push(
      ...extra.writable,
      `workdir=${workDirectory(snapshots, directory)}`,
      `upperdir=${fs(directory)}`,
    );
  options.push(`lowerdir=${parents.map(fs).join(':')}`);
  return [{ type: 'overlay', source: 'overlay', options }];
}
