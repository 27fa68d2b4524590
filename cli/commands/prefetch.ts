import { Command } from 'commander';
import type { Handlers, PrefetchOptions } from './handlers.ts';
import { daemonSocket, json } from './options.ts';

const NOTES = `
containerd pulls the image as for a pod of the runtime class, and the whole checkpoint comes into this node's cache. It then
is an image like others: disk pressure and garbage collection of images see its bytes, and remove it while no pod uses it.

Credentials come from ~/.docker/config.json, as "docker login" writes it; thaw-snapshotter uses its own (docker_config).

Examples:
  thaw prefetch registry.example:5000/llm:warm
  thaw prefetch registry.example:5000/llm:warm --json`;

export function prefetchCommand(handlers: Handlers): Command {
  return new Command('prefetch')
    .summary('bring an image and its checkpoint to this node before a pod asks')
    .description('Brings an image and all of its checkpoint to this node before a pod asks for them.')
    .argument('<reference>', "the image's name")
    .option('--runtime-handler <name>', "the runtime class's handler, which names the snapshotter", 'thaw')
    .addOption(daemonSocket())
    .addOption(json())
    .addHelpText('after', NOTES)
    .action(async (reference: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Omit<PrefetchOptions, 'reference'>>();
      await handlers.prefetch({ ...options, reference });
    });
}
