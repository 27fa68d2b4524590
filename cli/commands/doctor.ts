import { Command } from 'commander';
import type { DoctorOptions, Handlers } from './handlers.ts';
import { json } from './options.ts';

const NOTES = `
Looks at kernel, cgroups, CRIU, runc, the disk, thaw-snapshotter, containerd and its configuration, and at images that came
here before thaw did. A line "→" says what to do. Mounts an overlay below thaw's root and makes an empty snapshot, and takes
both away again; changes nothing else. Status 1 if a check fails.

Examples:
  thaw doctor
  thaw doctor --containerd-config /var/lib/rancher/k3s/agent/etc/containerd/config.toml --json`;

export function doctorCommand(handlers: Handlers): Command {
  return new Command('doctor')
    .summary('find what is wrong on this node')
    .description('Finds what keeps this node from restoring containers, and says how to mend it.')
    .option(
      '--config <file>',
      "thaw-snapshotter's configuration (default: /etc/thaw/config.toml if it exists)",
    )
    .option('--containerd-config <file>', "containerd's configuration", '/etc/containerd/config.toml')
    .addOption(json())
    .addHelpText('after', NOTES)
    .action(async (_options: unknown, command: Command) => {
      await handlers.doctor(command.optsWithGlobals<DoctorOptions>());
    });
}
