import type { DaemonOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { formatBytes, formatMs, formatShare, formatTable, printable, shortDigest } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';
import { type NodeCheckpoint, withDaemon } from './daemon.ts';

/** `thaw status`. */
export async function runStatus(options: DaemonOptions, context: Context): Promise<void> {
  const checkpoints = await withDaemon(options.socket, context.signal, (daemon) => daemon.list());
  if (options.json) context.print(toJson({ checkpoints }));
  else for (const line of statusLines(checkpoints)) context.print(line);
}

/** `rateOf` (bytes a second) adds how fast each comes and how long the rest will take. */
export function statusLines(
  checkpoints: readonly NodeCheckpoint[],
  rateOf?: (id: string) => number,
): string[] {
  if (checkpoints.length === 0) return ['No checkpoints on this node'];
  const rows = checkpoints.map((checkpoint) => [
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
    ['ID', 'STATE', 'HERE>', 'STORED>', 'FETCHED>', 'WANTED>', ...live, 'IMAGE'],
    rows,
  );
  const errors = checkpoints
    .filter(({ error }) => error !== '')
    .map(({ id, error }) => `${shortDigest(id)}: ${printable(error)}`);
  return [...lines, ...errors];
}

function pace({ state, storedBytes, presentBytes }: NodeCheckpoint, rate: number): [string, string] {
  if (state !== 'fetching') return ['–', '–'];
  const left = Number(storedBytes - presentBytes);
  return [`${formatBytes(rate)}/s`, rate > 0 ? formatMs((left / rate) * 1000) : '–'];
}
