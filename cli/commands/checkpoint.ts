import { Command } from 'commander';
import type { CheckpointOptions, Handlers } from './handlers.ts';
import { hostsDir, json, plainHttp } from './options.ts';

const NOTES = `
The container must run under the thaw runtime. It stands still from the dump until its root file system is compared,
then it goes on, also if a step fails; with --stop it ends instead, once everything is saved.

What was saved is restored once on this node, cut off from the network, and is pushed only if that works: if the probe
passes or, without one, if its process still runs after two seconds. Where it cannot be tried (no memory for a second
one, a GPU, the network of the host) a warning says so, and the image says that it is unverified.

Credentials come from ~/.docker/config.json, as "docker login" writes it.

Examples:
  thaw checkpoint models/llm-0 --image registry.example:5000/llm:warm
  thaw checkpoint 3f2a --image registry.example:5000/llm:warm
  thaw checkpoint web --namespace default --image localhost:5000/web:warm --json`;

export function checkpointCommand(handlers: Handlers): Command {
  return new Command('checkpoint')
    .summary('save a running container as an image and push it')
    .description('Saves a running container, memory included, as a checkpoint image in a registry.')
    .argument(
      '<container>',
      'its id, the first characters of it, or POD, NAMESPACE/POD, NAMESPACE/POD/CONTAINER',
    )
    .requiredOption('--image <reference>', 'name of the image to push')
    .option('--stop', 'end the container once it is saved', false)
    .option('--probe <check>', 'http://localhost:PORT/PATH, tcp://localhost:PORT or exec:COMMAND')
    .option('--no-verify', 'push it without restoring it first')
    .addOption(plainHttp())
    .addOption(hostsDir())
    .option('--work-dir <directory>', 'where the dump and its layers lie meanwhile', '/var/lib/thaw/work')
    .addOption(json())
    .addHelpText('after', NOTES)
    .action(async (container: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Omit<CheckpointOptions, 'container'>>();
      await handlers.checkpoint({ ...options, container });
    });
}
