import { Command } from 'commander';
import type { Handlers, RetryOptions } from './handlers.ts';
import { json } from './options.ts';

export function retryCommand(handlers: Handlers): Command {
  return new Command('retry')
    .summary('let a checkpoint be restored again that failed on this node')
    .description(
      'A checkpoint whose restore failed is not tried again before it, thaw, the kernel, CRIU, runc or the GPU driver changes, or the node boots. This forgets that it failed.',
    )
    .argument(
      '[checkpoint]',
      "the checkpoint's id as 'thaw why' and 'thaw status' show it, or its first characters",
    )
    .option('--all', 'every checkpoint that failed here', false)
    .addOption(json())
    .action(async (checkpoint: string | undefined, _options: unknown, command: Command) => {
      const { all, ...options } = command.optsWithGlobals<RetryOptions & { all: boolean }>();
      if (all === (checkpoint !== undefined))
        command.error('error: name one checkpoint, or give --all for every one that failed here', {
          exitCode: 2,
        });
      await handlers.retry({ ...options, ...(checkpoint !== undefined && { checkpoint }) });
    });
}
