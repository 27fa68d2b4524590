import { Command } from 'commander';
import type { BuildOptions, Handlers } from './handlers.ts';
import { hostsDir, json, plainHttp } from './options.ts';

const NOTES = `
The file is TOML (or JSON, if its name ends so); "-" reads it from standard input. docs/cli.md lists its keys:

  image = "registry.example/models/server:v1"
  [env]
  MODEL = "small"
  [ready]
  http = { port = 8080, path = "/healthz" }
  [[warm_up]]
  http = { port = 8080, path = "/generate", method = "POST", body = '{"prompt":"hello"}' }

The base image is started on this node under thaw, outside of any pod, with a network that has nothing but loopback. When it
is ready it is warmed up, brought to rest, saved and stopped; what was saved is restored once in its place, and pushed only
if that works. Whatever happens, nothing of it is left on the node.

With --lazy the base image is first converted as "thaw convert --lazy" does, into the repository of the image to push; what
the restored one reads of it comes first on other nodes.

Credentials come from ~/.docker/config.json, as "docker login" writes it.

Examples:
  thaw build server.toml --image registry.example/models/server:warm
  thaw build server.toml --image registry.example/models/server:warm --dry-run`;

export function buildCommand(handlers: Handlers): Command {
  return new Command('build')
    .summary('build a checkpoint image from a base image and a file')
    .description(
      'Starts a base image on this node, warms it up, saves it as a checkpoint image and pushes that.',
    )
    .argument('<file>', 'what to build')
    .requiredOption('--image <reference>', 'name of the image to push')
    .option('--dry-run', 'say what would be done, and do nothing', false)
    .option('--no-verify', 'push it without restoring it first')
    .option('--lazy', 'make the base layers such that thaw nodes read them on demand', false)
    .option(
      '--snapshotter <name>',
      'where the base image is unpacked (default: "overlayfs", with --lazy "thaw")',
    )
    .option('--systemd-cgroup', 'let systemd make the cgroups, where containerd does so for pods', false)
    .addOption(plainHttp())
    .addOption(hostsDir())
    .option('--work-dir <directory>', 'where the dump and its layers lie meanwhile', '/var/lib/thaw/work')
    .addOption(json())
    .addHelpText('after', NOTES)
    .action(async (file: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<
        Omit<BuildOptions, 'file' | 'snapshotter'> & { snapshotter?: string }
      >();
      const snapshotter = options.snapshotter ?? (options.lazy ? 'thaw' : 'overlayfs');
      await handlers.build({ ...options, snapshotter, file });
    });
}
