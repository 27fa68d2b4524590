import { Command, Option } from 'commander';
import type { Handlers, InstallOptions, UninstallOptions } from './handlers.ts';

const INSTALL_NOTES = `
Copies the folder that this program lies in to PREFIX/VERSION, points PREFIX/current to it, links the programs into
--bin-dir, writes and starts the systemd units, adds thaw to containerd's configuration and restarts containerd if that
changed; running containers go on. containerd reads the new configuration before it is put in place, and gets the old one
back if it does not work with it. Without systemd the commands for that are printed instead. Run it again at any time, also
after it was cut off; run another version's to go there.

Examples:
  bin/thaw install --dry-run
  thaw install --images class`;

const UNINSTALL_NOTES = `
Takes back what "thaw install" changed: containerd's configuration first. Images whose layers only thaw has are removed,
as no pod could start from them. Data below thaw's root stays, unless --purge is given. Refuses while containers use thaw.

Examples:
  thaw uninstall --dry-run
  thaw uninstall --purge`;

function withPlaces(command: Command): Command {
  return command
    .option('--prefix <dir>', 'has a folder for each version', '/opt/thaw')
    .option('--bin-dir <dir>', "where programs are linked; in containerd's PATH", '/usr/local/bin')
    .option('--unit-dir <dir>', 'where systemd units are written', '/etc/systemd/system')
    .option('--containerd-config <file>', "containerd's configuration", '/etc/containerd/config.toml')
    .option(
      '--config <file>',
      "thaw-snapshotter's configuration (default: /etc/thaw/config.toml if it exists)",
    )
    .option('--dry-run', 'print what would be changed, and change nothing', false);
}

export function installCommand(handlers: Handlers): Command {
  return withPlaces(
    new Command('install')
      .summary('set this node up')
      .description('Sets this node up, or brings it to this version, and says what it changes.'),
  )
    .addOption(
      new Option('--images <which>', 'which images are on thaw: of the node, or of the runtime class alone')
        .choices(['node', 'class'])
        .default('node'),
    )
    .addHelpText('after', INSTALL_NOTES)
    .action(async (_options: unknown, command: Command) => {
      await handlers.install(command.optsWithGlobals<InstallOptions>());
    });
}

export function uninstallCommand(handlers: Handlers): Command {
  return withPlaces(
    new Command('uninstall')
      .summary('take thaw off this node')
      .description('Takes thaw off this node, and leaves it as it was before.'),
  )
    .option('--force', 'also while containers use thaw: they run on and cannot be removed', false)
    .option('--purge', 'also delete snapshots, the node cache and all else below the root', false)
    .addHelpText('after', UNINSTALL_NOTES)
    .action(async (_options: unknown, command: Command) => {
      await handlers.uninstall(command.optsWithGlobals<UninstallOptions>());
    });
}
