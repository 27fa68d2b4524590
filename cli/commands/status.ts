import { Command } from 'commander';
import type { Handlers, StatusOptions } from './handlers.ts';
import { daemonSocket, json } from './options.ts';

export function statusCommand(handlers: Handlers): Command {
  return new Command('status')
    .summary('list the checkpoints on this node')
    .description('Lists the checkpoints on this node and how much of each is here.')
    .option('-w, --watch', 'show it again each second until interrupted, with rates', false)
    .addOption(daemonSocket())
    .addOption(json())
    .action(async (_options: unknown, command: Command) => {
      await handlers.status(command.optsWithGlobals<StatusOptions>());
    });
}
