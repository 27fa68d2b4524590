import { Code } from '../../proto/status.ts';
import type { EvictOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { formatBytes, shortDigest } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';
import { type NodeCheckpoint, withDaemon } from './daemon.ts';

/** `thaw evict`. */
export async function runEvict(options: EvictOptions, context: Context): Promise<void> {
  const { id, freedBytes } = await withDaemon(options.socket, context.signal, async (daemon) => {
    const found = matchId(await daemon.list(), options.id);
    return { id: found, freedBytes: await daemon.evict(found) };
  });
  if (options.json) context.print(toJson({ id, freedBytes }));
  else context.print(`Evicted ${shortDigest(id)}: ${formatBytes(freedBytes)} free again`);
}

/** The one checkpoint whose id begins like this, with or without "sha256:". */
export function matchId(checkpoints: readonly NodeCheckpoint[], prefix: string): string {
  const bare = prefix.replace(/^sha256:/, '').replace(/…$/, '');
  const found = checkpoints.filter(({ id }) => bare !== '' && id.replace(/^sha256:/, '').startsWith(bare));
  const [only, ...others] = found;
  if (only === undefined)
    throw new CliError(
      Code.notFound,
      `Cannot find a checkpoint ${prefix} on this node: 'thaw status' shows what is here`,
    );
  if (others.length > 0)
    throw new CliError(
      Code.invalidArgument,
      `${prefix} could be any of ${found.length} checkpoints: give more characters of the id`,
    );
  return only.id;
}
