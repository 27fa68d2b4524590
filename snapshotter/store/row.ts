/** Rows of meta.db as snapshots. */
import type { Kind, Labels, Snapshot } from './snapshot-info.ts';

/** As `raw` gives them, in the order of SELECT: objects took better-sqlite3 three times as long. */
export type Row = readonly [
  id: bigint,
  name: string,
  parent: string | null,
  kind: Kind,
  created: bigint,
  updated: bigint,
  labels: string,
  directory: bigint,
  diffId: string | null,
  checkpoint: string | null,
  layer: string | null,
];

export const SELECT = `
  SELECT s.id, s.name, p.name AS parent, s.kind, s.created, s.updated, s.labels, s.directory, d.diff_id, d.checkpoint,
    d.layer
  FROM snapshots s JOIN directories d ON d.id = s.directory LEFT JOIN snapshots p ON p.id = s.parent`;

export function fromRow(row: Row): Snapshot {
  const [, name, parent, kind, created, updated, labels, directory, diffId, checkpoint, layer] = row;
  return {
    name,
    parent: parent ?? '',
    kind,
    created,
    updated,
    labels: JSON.parse(labels) as Labels,
    directory: {
      id: Number(directory),
      diffId: diffId ?? undefined,
      checkpoint: checkpoint ?? undefined,
      layer: layer ?? undefined,
    },
  };
}

/** Labels as they are kept. containerd has none with an empty value: to set one to it is to remove it. */
export function stored(labels: Labels): string {
  return JSON.stringify(Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== '')));
}
