import { Command } from 'commander';
import type { EvictOptions, Handlers } from './handlers.ts';
import { daemonSocket, json } from './options.ts';

export function evictCommand(handlers: Handlers): Command {
  return new Command('evict')
    .summary("drop a checkpoint from this node's cache")
    .description("Drops a checkpoint from this node's cache. One that a container still needs is kept.")
    .argument('<id>', "the checkpoint's id as 'thaw status' shows it, or the first characters of it")
    .addOption(daemonSocket())
    .addOption(json())
    .action(async (id: string, _options: unknown, command: Command) => {
      await handlers.evict({ ...command.optsWithGlobals<Omit<EvictOptions, 'id'>>(), id });
    });
}
