/** Rows of meta.db as snapshots. */
import type { Kind, Labels, Snapshot } from './snapshot-info.ts';

export interface Row {
  id: bigint;
  name: string;
  parent: string | null;
  kind: Kind;
  created: bigint;
  updated: bigint;
  labels: string;
  directory: bigint;
  diff_id: string | null;
  checkpoint: string | null;
}

export const SELECT = `
  SELECT s.id, s.name, p.name AS parent, s.kind, s.created, s.updated, s.labels, s.directory, d.diff_id, d.checkpoint
  FROM snapshots s JOIN directories d ON d.id = s.directory LEFT JOIN snapshots p ON p.id = s.parent`;

export function fromRow(row: Row): Snapshot {
  return {
    name: row.name,
    parent: row.parent ?? '',
    kind: row.kind,
    created: row.created,
    updated: row.updated,
    labels: JSON.parse(row.labels) as Labels,
    directory: {
      id: Number(row.directory),
      diffId: row.diff_id ?? undefined,
      checkpoint: row.checkpoint ?? undefined,
    },
  };
}

/** Labels as they are kept. containerd has none with an empty value: to set one to it is to remove it. */
export function stored(labels: Labels): string {
  return JSON.stringify(Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== '')));
}
