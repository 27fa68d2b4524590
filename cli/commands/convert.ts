import { Command, Option } from 'commander';
import { usageError } from '../error.ts';
import type { ConvertOptions, Handlers } from './handlers.ts';
import { hostsDir, json, plainHttp } from './options.ts';

const NOTES = `
With --lazy, an image's layers are pushed anew so that a node with thaw reads them on demand: a container starts before
they are downloaded, and they are never unpacked. A node without thaw pulls and runs the image as any other. A layer that
cannot be read so stays as it is, and a warning says why.

With --image or --archive, a checkpoint goes from an archive of other tools to an image, or back. The archives are those of
CRI-O's and containerd's CheckpointContainer, of "podman container checkpoint --export", and of checkpointctl. The base image must
be named where the archive does not name it. An archive is not believed: what is in it is checked, and the image is pushed as
unverified. What was in volumes no image has, as pods bring theirs along: --ignore-volumes leaves it out. What the archive does not say of the node it was made on is taken from this one, so convert on a node of the same kind.

Credentials come from ~/.docker/config.json, as "docker login" writes it.

Examples:
  thaw convert --lazy registry.example:5000/llm:v1 registry.example:5000/llm:v1-lazy
  thaw convert checkpoint-web.tar --image registry.example:5000/web:warm --base registry.example:5000/web:1
  thaw convert registry.example:5000/web:warm --archive web.tar`;

type Common = Pick<ConvertOptions, 'address' | 'namespace' | 'plainHttp' | 'hostsDir' | 'json' | 'workDir'>;

interface Flags extends Common {
  lazy: boolean;
  order?: string;
  image?: string;
  base?: string;
  ignoreVolumes: boolean;
  archive?: string;
}

export function convertCommand(handlers: Handlers): Command {
  return new Command('convert')
    .summary('push an image with layers that nodes read on demand; archives of other tools')
    .description(
      'Pushes an image anew with layers that nodes read on demand, or converts between a checkpoint image and an archive of other tools.',
    )
    .argument('<source>', "the image's name, or the archive")
    .argument('[target]', 'name of the image to push, with --lazy')
    .option('--lazy', 'make layers that are read on demand', false)
    .option('--order <file>', 'with --lazy: what "thaw record" printed, which comes first on nodes')
    .option('--image <reference>', 'name of the checkpoint image to push from an archive')
    .option('--base <reference>', 'image that the container ran from; what the archive says if not given')
    .option('--ignore-volumes', 'convert an archive without what was in volumes', false)
    .addOption(
      new Option('--archive <file>', 'archive to write from a checkpoint image').conflicts(['image', 'base']),
    )
    .addOption(plainHttp())
    .addOption(hostsDir())
    .option('--work-dir <directory>', 'where files lie meanwhile', '/var/lib/thaw/work')
    .addOption(json())
    .addHelpText('after', NOTES)
    .action(async (source: string, target: string | undefined, _options: unknown, command: Command) => {
      const { lazy, order, image, base, ignoreVolumes, archive, ...common } =
        command.optsWithGlobals<Flags>();
      const checkpoint = image ?? archive;
      if (lazy && target !== undefined && checkpoint === undefined && base === undefined)
        return handlers.convertLazy({ ...common, source, target, order });
      if (order !== undefined) throw usageError('--order goes with --lazy alone');
      if (!lazy && target === undefined && image !== undefined)
        return handlers.convert({ ...common, to: 'image', archive: source, image, base, ignoreVolumes });
      if (!lazy && target === undefined && archive !== undefined)
        return handlers.convert({ ...common, to: 'archive', reference: source, archive });
      throw usageError(
        'Say what to convert to: --lazy and the name of another image, --image (from an archive), or --archive',
      );
    });
}
