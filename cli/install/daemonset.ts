/** `thaw daemonset`: the installer as a pod of the node that it changes. */
import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Code, describeError } from '../../proto/status.ts';
import type { DaemonSetOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { apiServer, type DaemonSetState, daemonSetState, labelNode, wasDeleted } from './api-server.ts';
import { InstallError, refused } from './error.ts';
import { ownTree } from './node.ts';
import { placeTree, versionOf } from './versions.ts';

/** What the readiness probe looks for. */
const READY = '/run/thaw-installed';
const NODE_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** The time-outs of the command itself are shorter. */
const COMMAND_MS = 600_000;

export async function runDaemonSet(options: DaemonSetOptions, context: Context): Promise<void> {
  const tree = ownTree();
  const version = await versionOf(tree);
  if (!version) throw refused(`${tree} is no installation of thaw: the image must have an unpacked package`);
  const api = await apiServer(context.env);
  const ask = () => daemonSetState(api, options.podNamespace, options.daemonset);
  const atStart = await ask();
  if (atStart.kind === 'unknown')
    context.warn(
      `note: whether the DaemonSet is there cannot be seen (${atStart.why}): thaw stays when it is deleted`,
    );
  const below = join(options.host, options.prefix);
  await mkdir(below, { recursive: true });
  await placeTree(tree, below, version);
  await onNode(options, version.name, 'install');
  const label = async (isReady: boolean) => {
    if (options.nodeName === undefined) return;
    await labelNode(api, options.nodeName, isReady).catch((error: unknown) =>
      context.warn(`note: ${describeError(error).message}; "kubectl label node" does it by hand`),
    );
  };
  await label(true);
  await writeFile(READY, '');
  await stopped(context.signal);
  const state = await ask();
  if (!wasDeleted(atStart, state)) return context.print(`thaw stays: ${wordsOf(state)}`);
  await label(false);
  try {
    await onNode(options, version.name, 'uninstall');
  } catch (error) {
    // Pods use it still.
    await label(true);
    throw error;
  }
}

function wordsOf(state: DaemonSetState): string {
  switch (state.kind) {
    case 'there':
      return 'its DaemonSet is there';
    case 'deleted':
    case 'refused':
      return 'its DaemonSet could not be seen from the beginning';
    case 'unknown':
      return state.why;
  }
}

function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    // Keeps the process; a signal that waits for another does not.
    const alive = setInterval(() => {}, 1 << 30);
    const end = () => {
      clearInterval(alive);
      resolve();
    };
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { once: true });
  });
}

/** With the node's files, network and processes, as somebody at its console. */
async function onNode(
  { prefix }: DaemonSetOptions,
  version: string,
  verb: 'install' | 'uninstall',
): Promise<void> {
  const program = join(prefix, version, 'bin/thaw');
  const args = [
    '--target',
    '1',
    '--mount',
    '--uts',
    '--ipc',
    '--net',
    '--pid',
    '--',
    program,
    verb,
    '--prefix',
    prefix,
  ];
  const child = spawn('nsenter', args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { PATH: NODE_PATH, HOME: '/root' },
    timeout: COMMAND_MS,
    killSignal: 'SIGTERM',
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve(status ?? -1));
  }).catch((cause: unknown) => {
    throw new InstallError(Code.unavailable, `Cannot run nsenter: ${describeError(cause).message}`, {
      cause,
    });
  });
  if (code !== 0)
    throw new InstallError(Code.unknown, `thaw ${verb} on the node ended with ${code}; its words are above`);
}
