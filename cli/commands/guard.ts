import { Command } from 'commander';
import type { GuardOptions, Handlers } from './handlers.ts';

/** Started by `thaw checkpoint`, never by people: see cli/checkpoint/guard.ts. */
export function guardCommand(handlers: Handlers): Command {
  return new Command('guard')
    .argument('<container>')
    .requiredOption('--remove <directory>')
    .requiredOption('--trial <container>')
    .requiredOption('--snapshotter <name>')
    .option('--no-resume')
    .action(async (container: string, _options: unknown, command: Command) => {
      await handlers.guard({ ...command.optsWithGlobals<Omit<GuardOptions, 'container'>>(), container });
    });
}
