import { Command } from 'commander';
import type { ConvertLazyOptions, Handlers } from './handlers.ts';
import { hostsDir, json, plainHttp } from './options.ts';

const NOTES = `
With --lazy, an image's layers are pushed anew so that a node with thaw reads them on demand: a container starts before
they are downloaded, and they are never unpacked. A node without thaw pulls and runs the image as any other. A layer that
cannot be read so stays as it is, and a warning says why.

Credentials come from ~/.docker/config.json, as "docker login" writes it.

Examples:
  thaw convert --lazy registry.example:5000/llm:v1 registry.example:5000/llm:v1-lazy`;

export function convertCommand(handlers: Handlers): Command {
  return new Command('convert')
    .summary('push an image with layers that nodes read on demand')
    .description('Pushes an image anew with layers that nodes read on demand.')
    .argument('<source>', "the image's name")
    .argument('<target>', 'name of the image to push')
    .requiredOption('--lazy', 'make layers that are read on demand')
    .addOption(plainHttp())
    .addOption(hostsDir())
    .option('--work-dir <directory>', 'where a layer lies meanwhile', '/var/lib/thaw/work')
    .addOption(json())
    .addHelpText('after', NOTES)
    .action(async (source: string, target: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Omit<ConvertLazyOptions, 'source' | 'target'>>();
      await handlers.convertLazy({ ...options, source, target });
    });
}
