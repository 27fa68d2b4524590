import { Command } from 'commander';
import type { Handlers } from './handlers.ts';
import { hostsDir, json, plainHttp } from './options.ts';

interface Parsed {
  file?: string;
  plainHttp: boolean;
  hostsDir: string;
  json: boolean;
  verify: boolean;
}

const NOTES = `
Only the manifest, the index and checkpoint.json are read, a few megabytes at most.

Examples:
  thaw inspect registry.example:5000/llm:warm
  thaw inspect registry.example:5000/llm:warm --verify
  thaw inspect --file ./unpacked --json`;

export function inspectCommand(handlers: Handlers): Command {
  return new Command('inspect')
    .summary('show what is in a checkpoint image')
    .description(
      'Shows what is in a checkpoint image: sizes, processes, memory, mounts, and where it can run.',
    )
    .argument('[reference]', 'the image in its registry')
    .option('--file <directory>', 'a directory with an unpacked image instead: it has .thaw/ in it')
    .option('--verify', 'fetch every byte and check it', false)
    .addOption(plainHttp())
    .addOption(hostsDir())
    .addOption(json())
    .addHelpText('after', NOTES)
    .action(async (reference: string | undefined, _options: unknown, command: Command) => {
      const { file, plainHttp, hostsDir, json, verify } = command.optsWithGlobals<Parsed>();
      const common = { plainHttp, hostsDir, json, verify };
      if (reference !== undefined && file === undefined)
        await handlers.inspect({ ...common, source: 'registry', reference });
      else if (reference === undefined && file !== undefined)
        await handlers.inspect({ ...common, source: 'directory', directory: file });
      else command.error('error: name either an image or --file DIRECTORY', { exitCode: 2 });
    });
}
