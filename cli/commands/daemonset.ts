import { Command } from 'commander';
import type { DaemonSetOptions, Handlers } from './handlers.ts';

/** What deploy/kubernetes/daemonset.yaml runs; not for people. */
export function daemonsetCommand(handlers: Handlers): Command {
  return new Command('daemonset')
    .description(
      'Installs thaw on the node below --host, and waits; takes it off when its DaemonSet was deleted.',
    )
    .option('--host <dir>', "the node's root directory; its /opt/thaw is mounted there", '/host')
    .option('--prefix <dir>', 'where on the node', '/opt/thaw')
    .requiredOption('--daemonset <name>', 'whose deletion takes thaw off the node')
    .requiredOption('--pod-namespace <name>', 'where that DaemonSet is')
    .option('--node-name <name>', 'which node it is: labelled once it has thaw')
    .action(async (_options: unknown, command: Command) => {
      await handlers.daemonset(command.optsWithGlobals<DaemonSetOptions>());
    });
}
