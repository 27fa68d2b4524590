import { Command } from 'commander';
import type { Handlers, WhyOptions } from './handlers.ts';
import { json } from './options.ts';

const NOTES = `
POD is a pod's name, NAMESPACE/NAME or uid, or a container's id (or its first characters). Without it the last starts of
all pods are shown. What is shown is what this node remembers: its last 500 starts of containers with a checkpoint.
With --json they are a list of Kubernetes events.

Examples:
  thaw why
  thaw why models/llm-0
  thaw why llm-0 --json | kubectl create -f -`;

export function whyCommand(handlers: Handlers): Command {
  return new Command('why')
    .summary('say how the starts of a pod went, and why not otherwise')
    .description('Says whether containers on this node were restored or started cold, and why.')
    .argument('[pod]', 'whose starts; all if not given')
    .addOption(json())
    .addHelpText('after', NOTES)
    .action(async (pod: string | undefined, _options: unknown, command: Command) => {
      await handlers.why({ ...command.optsWithGlobals<WhyOptions>(), ...(pod !== undefined && { pod }) });
    });
}
