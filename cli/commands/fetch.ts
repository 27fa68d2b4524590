import { Command } from 'commander';
import type { FetchOptions, Handlers } from './handlers.ts';
import { hostsDir, json, plainHttp } from './options.ts';

const NOTES = `
A checkpoint image that was pulled lazily has its checkpoint layers in thaw's cache, not in containerd's content store.
This puts all of its blobs there. An image that containerd does not know yet is added.

Examples:
  thaw fetch registry.example:5000/llm:warm
  ctr --namespace k8s.io images export llm.tar registry.example:5000/llm:warm`;

export function fetchCommand(handlers: Handlers): Command {
  return new Command('fetch')
    .summary("complete an image in containerd's content store")
    .description("Completes an image in containerd's content store, so that it can be exported or pushed.")
    .argument('<reference>', "the image's name")
    .addOption(plainHttp())
    .addOption(hostsDir())
    .addOption(json())
    .addHelpText('after', NOTES)
    .action(async (reference: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Omit<FetchOptions, 'reference'>>();
      await handlers.fetch({ ...options, reference });
    });
}
