/**
 * What was at each path before thaw was installed: PREFIX/install.json, for root alone, as a configuration may hold
 * passwords. Written before anything is changed, so that an installation that is cut off can be completed or undone.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { refused } from './error.ts';
import { ABSENT, type FileState, fingerprint, putState, stateOf } from './files.ts';
import { withoutSettings } from './toml-edit.ts';

const stateSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('absent') }),
  z.object({ kind: z.literal('file'), mode: z.number().int().min(0).max(0o7777), text: z.string() }),
  z.object({ kind: z.literal('link'), target: z.string() }),
]);
const schema = z.object({
  format: z.literal(1),
  /** When a file was changed that containerd reads at its start, in ms of the epoch; 0 if it has read all. */
  containerdChanged: z.number(),
  entries: z.array(
    z.object({
      path: z.string(),
      /** Who reads it; containerd's files are changed last and restored first. */
      area: z.enum(['containerd', 'system']),
      before: stateSchema,
      /** Fingerprints of what thaw put there, the last one last. */
      ours: z.array(z.string()),
    }),
  ),
});

export type InstallRecord = z.infer<typeof schema>;
export type Entry = InstallRecord['entries'][number];
export type Area = Entry['area'];

export interface Change {
  path: string;
  area: Area;
  from: FileState;
  to: FileState;
}

export const RECORD = 'install.json';
/** Of an installation whose last attempts were cut off between the record and the change. */
const FINGERPRINTS = 8;

export async function readRecord(prefix: string): Promise<InstallRecord> {
  const path = join(prefix, RECORD);
  const state = await stateOf(path);
  if (state.kind === 'absent') return { format: 1, containerdChanged: 0, entries: [] };
  try {
    return schema.parse(JSON.parse(state.kind === 'file' ? state.text : ''));
  } catch (cause) {
    throw refused(`${path} cannot be read, and says what was here before: restore it, or undo by hand`, {
      cause,
    });
  }
}

export async function writeRecord(prefix: string, record: InstallRecord): Promise<void> {
  const text = `${JSON.stringify(record, null, 1)}\n`;
  await putState(join(prefix, RECORD), { kind: 'file', mode: 0o600, text });
}

export async function removeRecord(prefix: string): Promise<void> {
  await putState(join(prefix, RECORD), ABSENT);
}

/** What was there before the first change counts, however often thaw is installed over itself. */
export function withChanges(record: InstallRecord, changes: readonly Change[]): InstallRecord {
  const entries = new Map(record.entries.map((entry) => [entry.path, entry]));
  for (const { path, area, from, to } of changes) {
    const known = entries.get(path);
    // Somebody else's since: that is what an uninstallation restores.
    const isTheirs = known === undefined || !known.ours.includes(fingerprint(from));
    const before = isTheirs ? unmarked(from, area) : known.before;
    const ours = [...(known?.ours ?? []), fingerprint(to)].slice(-FINGERPRINTS);
    entries.set(path, { path, area, before, ours });
  }
  return { ...record, entries: [...entries.values()] };
}

/** A configuration that somebody changed has our lines in it still. */
function unmarked(state: FileState, area: Area): FileState {
  return area === 'containerd' && state.kind === 'file'
    ? { ...state, text: withoutSettings(state.text) }
    : state;
}

export type Restoration =
  | { kind: 'nothing' }
  | { kind: 'put'; state: FileState }
  /** It was changed since, and is put aside, as it cannot be told what of it is ours. */
  | { kind: 'aside'; state: FileState };

/** How a path gets back to what it was. Pure. */
export function restorationOf({ before, ours, area }: Entry, now: FileState): Restoration {
  const seen = fingerprint(now);
  if (seen === fingerprint(before) || now.kind === 'absent') return { kind: 'nothing' };
  if (ours.includes(seen)) return { kind: 'put', state: before };
  if (area === 'containerd' && now.kind === 'file') {
    const text = withoutSettings(now.text);
    return text === now.text ? { kind: 'nothing' } : { kind: 'put', state: { ...now, text } };
  }
  return { kind: 'aside', state: before };
}
