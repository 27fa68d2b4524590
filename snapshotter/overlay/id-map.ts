/**
 * Who owns the root directory of a snapshot for a user namespace. Sources: containerd, core/snapshots/snapshotter.go
 * (labels), internal/userns (their form: "container id:host id:count", several with commas between).
 */
import { invalidArgument } from '../error.ts';
import type { Labels } from '../store/index.ts';

export const UID_MAPPING_LABEL = 'containerd.io/snapshot/uidmapping';
export const GID_MAPPING_LABEL = 'containerd.io/snapshot/gidmapping';

export interface Owner {
  uid: number;
  gid: number;
}

/** Ids up to this one fit into what the kernel takes; the last means "none". */
const MAX_ID = 0xff_ff_ff_fe;

/** The host's ids of the namespace's root; undefined without the labels. INVALID_ARGUMENT if they give none. */
export function mappedRoot(labels: Labels): Owner | undefined {
  const uids = labels[UID_MAPPING_LABEL];
  const gids = labels[GID_MAPPING_LABEL];
  if (!uids && !gids) return undefined;
  return { uid: rootOf(UID_MAPPING_LABEL, uids ?? ''), gid: rootOf(GID_MAPPING_LABEL, gids ?? '') };
}

function rootOf(label: string, text: string): number {
  let root: number | undefined;
  for (const mapping of text.split(',')) {
    const [, inside, outside, count] = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/.exec(mapping) ?? [];
    if (inside === undefined || Number(outside) > MAX_ID)
      throw invalidArgument(
        `Cannot use label ${label}="${text.slice(0, 200)}": it must be "container id:host id:count"`,
      );
    if (Number(inside) === 0 && Number(count) > 0) root ??= Number(outside);
  }
  if (root === undefined)
    throw invalidArgument(`Cannot use label ${label}="${text.slice(0, 200)}": it maps no root (id 0)`);
  return root;
}
