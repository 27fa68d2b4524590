import { Command, InvalidArgumentError } from 'commander';
import type { Handlers, RecordOptions } from './handlers.ts';
import { daemonSocket } from './options.ts';

const LONGEST_S = 900;
const NOTES = `
Start the container meanwhile, and have it do what should be fast. What it read is printed as JSON, for "thaw convert --lazy
--order". Containers that are started while this runs read their lazy layers anew, without the page cache.

Examples:
  thaw record --seconds 60 >order.json
  thaw convert --lazy registry.example:5000/llm:v1 registry.example:5000/llm:v1-lazy --order order.json`;

export function recordCommand(handlers: Handlers): Command {
  return new Command('record')
    .summary('record what containers read of lazy layers as they start')
    .description('Records what containers that are started from now on read of their lazy layers.')
    .requiredOption('--seconds <n>', `how long, up to ${LONGEST_S}`, seconds)
    .addOption(daemonSocket())
    .addHelpText('after', NOTES)
    .action(async (_options: unknown, command: Command) => {
      await handlers.record(command.optsWithGlobals<RecordOptions>());
    });
}

function seconds(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > LONGEST_S)
    throw new InvalidArgumentError(`It must be a number from 1 to ${LONGEST_S}.`);
  return value;
}
