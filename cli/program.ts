import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { buildCommand } from './commands/build.ts';
import { checkpointCommand } from './commands/checkpoint.ts';
import { convertCommand } from './commands/convert.ts';
import { daemonsetCommand } from './commands/daemonset.ts';
import { doctorCommand } from './commands/doctor.ts';
import { evictCommand } from './commands/evict.ts';
import { fetchCommand } from './commands/fetch.ts';
import { guardCommand } from './commands/guard.ts';
import type { Handlers } from './commands/handlers.ts';
import { inspectCommand } from './commands/inspect.ts';
import { installCommand, uninstallCommand } from './commands/install.ts';
import { prefetchCommand } from './commands/prefetch.ts';
import { recordCommand } from './commands/record.ts';
import { retryCommand } from './commands/retry.ts';
import { statusCommand } from './commands/status.ts';
import { whyCommand } from './commands/why.ts';
import { ExitStatus as Exit, type ExitStatus } from './error.ts';

const EXAMPLES = `
Examples:
  Save a running container as an image and push it:
    thaw checkpoint 3f2a --image registry.example:5000/llm:warm
  Save it and stop it:
    thaw checkpoint 3f2a --image registry.example:5000/llm:warm --stop
  Build one from a base image and a file:
    thaw build server.toml --image registry.example:5000/llm:warm
  Look into a checkpoint image without pulling it:
    thaw inspect registry.example:5000/llm:warm
  Complete a lazily pulled image, so that it can be exported:
    thaw fetch registry.example:5000/llm:warm
  Bring an image and its checkpoint to this node before a pod asks:
    thaw prefetch registry.example:5000/llm:warm
  Push an image whose layers nodes read on demand:
    thaw convert --lazy registry.example:5000/llm:v1 registry.example:5000/llm:v1-lazy
  What this node holds:
    thaw status --watch
  Why a pod started cold:
    thaw why models/llm-0
  What keeps this node from restoring containers:
    thaw doctor
  What setting this node up would change:
    thaw install --dry-run

Exit status: 0 done, 1 failed, 2 wrong command line, 130 interrupted.`;

export interface ProgramOptions {
  version: string;
  handlers: Handlers;
  /** Where --help and complaints about the command line go. */
  write: { out(text: string): void; err(text: string): void };
}

export function createProgram(options: ProgramOptions): Command {
  const program = new Command('thaw')
    .description('Saves running containers as checkpoint images, and looks after those images.')
    .version(options.version, '-V, --version', 'print the version')
    .option('--address <path>', "containerd's socket", '/run/containerd/containerd.sock')
    .option('--namespace <name>', "containerd's namespace; Kubernetes uses k8s.io", nonEmpty, 'k8s.io')
    .addHelpText('after', EXAMPLES)
    .showHelpAfterError("(run 'thaw --help' for what there is)")
    .configureOutput({
      writeOut: options.write.out,
      writeErr: options.write.err,
      outputError: (text, write) => write(text.replace(/^error: /, 'thaw: ')),
    })
    .exitOverride();
  for (const command of [
    buildCommand,
    checkpointCommand,
    convertCommand,
    recordCommand,
    inspectCommand,
    fetchCommand,
    prefetchCommand,
    statusCommand,
    evictCommand,
    whyCommand,
    retryCommand,
    doctorCommand,
    installCommand,
    uninstallCommand,
  ])
    program.addCommand(inherit(program, command(options.handlers)));
  for (const command of [guardCommand, daemonsetCommand])
    program.addCommand(inherit(program, command(options.handlers)), { hidden: true });
  return program;
}

/** Commander copies these settings only to commands that it makes itself. */
function inherit(program: Command, command: Command): Command {
  return command.copyInheritedSettings(program);
}

function nonEmpty(value: string): string {
  if (value === '') throw new InvalidArgumentError('It must not be empty.');
  return value;
}

/** Commander throws to end the program: after --help and --version with 0, otherwise for a wrong command line. */
export function exitStatusOfCommander(error: unknown): ExitStatus | undefined {
  if (!(error instanceof CommanderError)) return undefined;
  return error.exitCode === 0 ? Exit.ok : Exit.usage;
}
