import type { DaemonOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { formatBytes, formatMs, formatShare, formatTable, printable, shortDigest } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';
import { type NodeCheckpoint, type NodeContents, withDaemon } from './daemon.ts';

/** `thaw status`. */
export async function runStatus(options: DaemonOptions, context: Context): Promise<void> {
  const contents = await withDaemon(options.socket, context.signal, (daemon) => daemon.listAll());
  if (options.json) context.print(toJson(contents));
  else for (const line of statusLines(contents)) context.print(line);
}

/** `rateOf` (bytes a second) adds how fast each comes and how long the rest will take. */
export function statusLines(
  { checkpoints, layers }: NodeContents,
  rateOf?: (id: string) => number,
): string[] {
  const none = checkpoints.length === 0 ? ['No checkpoints on this node'] : [];
  return [
    ...none,
    ...linesOf('ID', checkpoints, rateOf),
    ...(layers.length > 0 ? [''] : []),
    ...linesOf('LAYER', layers, rateOf),
  ];
}

function linesOf(
  kind: string,
  entries: readonly NodeCheckpoint[],
  rateOf: ((id: string) => number) | undefined,
): string[] {
  if (entries.length === 0) return [];
  const rows = entries.map((checkpoint) => [
    shortDigest(checkpoint.id),
    checkpoint.state,
    formatShare(checkpoint.presentBytes, checkpoint.storedBytes),
    formatBytes(checkpoint.storedBytes),
    formatBytes(checkpoint.fetchedBytes),
    `${checkpoint.wantedChunks}`,
    ...(rateOf ? pace(checkpoint, rateOf(checkpoint.id)) : []),
    printable(checkpoint.image),
  ]);
  const live = rateOf ? ['RATE>', 'LEFT>'] : [];
  const lines = formatTable(
    [kind, 'STATE', 'HERE>', 'STORED>', 'FETCHED>', 'WANTED>', ...live, 'IMAGE'],
    rows,
  );
  const errors = entries
    .filter(({ error }) => error !== '')
    .map(({ id, error }) => `${shortDigest(id)}: ${printable(error)}`);
  return [...lines, ...errors];
}

function pace({ state, storedBytes, presentBytes }: NodeCheckpoint, rate: number): [string, string] {
  if (state !== 'fetching') return ['–', '–'];
  const left = Number(storedBytes - presentBytes);
  return [`${formatBytes(rate)}/s`, rate > 0 ? formatMs((left / rate) * 1000) : '–'];
}
