import { mkdir, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parse } from 'smol-toml';
import { INSTALL_LOCK } from '../../node-state/install-names.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { UninstallOptions } from '../commands/handlers.ts';
import type { Containerd } from '../containerd/index.ts';
import type { Context } from '../context.ts';
import type { DaemonConfig } from '../doctor/machine.ts';
import { printable } from '../ui/format.ts';
import { settingsOf } from './containerd-trial.ts';
import { InstallError, refused } from './error.ts';
import { type FileState, putState, removeTree, stateOf } from './files.ts';
import { type ImageName, imagesOnThawAlone, openContainerd, removeSnapshots, usersOf } from './in-use.ts';
import { currentOf } from './layout.ts';
import { changeLines } from './lines.ts';
import {
  knownDaemonConfig,
  lockPrefix,
  lookAround,
  mountsBelow,
  type Node,
  needsRestart,
  ownTree,
} from './node.ts';
import {
  type Entry,
  type InstallRecord,
  readRecord,
  removeRecord,
  restorationOf,
  writeRecord,
} from './record.ts';
import { ask, containerdAnswers, type Service, systemctl } from './services.ts';
import {
  daemonOf,
  hasRemains,
  type Running,
  removeUnused,
  runningIn,
  shimsOf,
  sweep,
  versionsIn,
} from './versions.ts';

interface Restore {
  entry: Entry;
  from: FileState;
  to: FileState;
  /** Where what somebody changed since is kept. */
  aside: string | undefined;
}

type Step =
  | { kind: 'remove-image'; image: ImageName }
  | { kind: 'remove-snapshots' }
  | { kind: 'restore'; restore: Restore }
  | { kind: 'service'; service: Service }
  | { kind: 'end-daemon'; daemon: Running }
  | { kind: 'remove-version'; version: string }
  | { kind: 'remove'; path: string };

/** `thaw uninstall`: what `thaw install` changed becomes what it was; containerd's files first. */
export async function runUninstall(options: UninstallOptions, context: Context): Promise<void> {
  const node = await lookAround(options, context);
  const containerd = await openContainerd(options);
  try {
    await refuseWhileUsed(node, containerd, options, context);
    const daemon = await knownDaemonConfig(node.machine, ownTree(), options.config);
    if (options.purge) await refusePurge(daemon);
    const steps = await planUninstall(node, containerd, options, daemon);
    // A killed uninstallation may have left only its own files, which are no step.
    const isLeft = steps.length > 0 || (await hasRemains(node.layout.prefix));
    if (options.dryRun) for (const step of steps) print(context, node, step);
    else if (isLeft) await execute(node, containerd, context, steps);
    if (!isLeft) context.print('thaw is not installed; nothing to change');
  } finally {
    containerd?.close();
    node.machine.close();
  }
}

async function refuseWhileUsed(
  { running }: Node,
  containerd: Containerd | undefined,
  { force, purge }: UninstallOptions,
  context: Context,
): Promise<void> {
  const users = containerd
    ? (await usersOf(containerd)).map(
        ({ namespace, id, image }) => `${id.slice(0, 12)} (${namespace}, ${image})`,
      )
    : shimsOf(running).map(({ pid }) => `the shim ${pid}`);
  if (users.length === 0) return;
  const more = users.length > 5 ? ` and ${users.length - 5} more` : '';
  const names = `${users.slice(0, 5).join(', ')}${more}`;
  if (purge && force)
    throw refused(
      `${users.length} containers lie on thaw's snapshots, and --purge would take them away: ${names}`,
    );
  if (!force)
    throw refused(
      `${users.length} containers here are thaw's: ${names}; drain the node first ("kubectl drain"), or leave them behind with --force: they run on, but containerd cannot remove them until thaw is installed again`,
    );
  context.warn(`warning: ${users.length} containers of thaw stay: ${names}`);
}

async function refusePurge({ root }: DaemonConfig): Promise<void> {
  const [mounted, ...others] = await mountsBelow(root);
  if (mounted !== undefined)
    throw refused(
      `${mounted} is mounted${others.length > 0 ? `, and ${others.length} more` : ''}: --purge would delete what lies there`,
    );
}

async function planUninstall(
  node: Node,
  containerd: Containerd | undefined,
  { purge }: UninstallOptions,
  daemon: DaemonConfig,
): Promise<Step[]> {
  const { record, layout } = node;
  const { prefix } = layout;
  const restores = await restoresOf(record);
  const [theirs, ours] = [restores.filter(isTheirs), restores.filter((each) => !isTheirs(each))];
  await tryWithout(node, theirs);
  const steps: Step[] = [];
  if (containerd && theirs.length > 0) {
    for (const image of await imagesOnThawAlone(containerd)) steps.push({ kind: 'remove-image', image });
    if (purge) steps.push({ kind: 'remove-snapshots' });
  }
  steps.push(...theirs.map((restore): Step => ({ kind: 'restore', restore })));
  const restart = node.containerdStarted !== undefined && (theirs.length > 0 || needsRestart(node));
  if (restart) steps.push({ kind: 'service', service: { kind: 'restart-containerd' } });
  // A containerd that still wants thaw must find it.
  if (restart && !node.hasSystemd) return steps;
  const hasUnits = ours.some(({ entry }) => dirname(entry.path) === layout.unitDir);
  if (node.hasSystemd && hasUnits) steps.push({ kind: 'service', service: { kind: 'disable' } });
  const left = daemonOf(node.running);
  if (left && !(node.hasSystemd && hasUnits)) steps.push({ kind: 'end-daemon', daemon: left });
  steps.push(...ours.map((restore): Step => ({ kind: 'restore', restore })));
  if (node.hasSystemd && hasUnits) steps.push({ kind: 'service', service: { kind: 'reload-units' } });
  if ((await stateOf(currentOf(prefix))).kind !== 'absent')
    steps.push({ kind: 'remove', path: currentOf(prefix) });
  for (const version of await versionsIn(prefix)) steps.push({ kind: 'remove-version', version });
  if (purge)
    for (const path of [daemon.root, daemon.state])
      if (await node.machine.exists(path)) steps.push({ kind: 'remove', path });
  return steps;
}

const isTheirs = ({ entry }: Restore) => entry.area === 'containerd';

/** In reverse order: the main file, which may import the drop-in, goes first. */
async function restoresOf({ entries }: InstallRecord): Promise<Restore[]> {
  const restores: Restore[] = [];
  for (const entry of [...entries].reverse()) {
    const from = await stateOf(entry.path);
    const how = restorationOf(entry, from);
    if (how.kind === 'nothing') continue;
    const aside = how.kind === 'aside' ? `${entry.path}.before-uninstall` : undefined;
    restores.push({ entry, from, to: how.state, aside });
  }
  return restores;
}

/** containerd reads what it is going to have. */
async function tryWithout({ machine, containerdConfig }: Node, restores: readonly Restore[]): Promise<void> {
  const main = restores.find(({ entry }) => entry.path === containerdConfig);
  if (main?.to.kind !== 'file') return;
  const { text } = main.to;
  // An empty file has no version, and may stay one.
  if (Object.keys(parse(text)).length > 0)
    await settingsOf(machine, containerdConfig, { main: text, dropIn: undefined });
}

function print(context: Context, node: Node, step: Step): void {
  for (const line of linesOf(node, step)) context.print(printable(line));
}

function linesOf({ layout: { prefix }, hasSystemd }: Node, step: Step): string[] {
  switch (step.kind) {
    case 'remove-image':
      return [`remove the image ${step.image.name} (${step.image.namespace}): its layers are on thaw alone`];
    case 'remove-snapshots':
      return ["remove thaw's snapshots from containerd"];
    case 'restore': {
      const { entry, from, to, aside } = step.restore;
      const kept = aside === undefined ? [] : [`keep ${entry.path} as ${aside}: it was changed since`];
      return [...kept, ...changeLines({ path: entry.path, from, to })];
    }
    case 'service':
      return hasSystemd
        ? [`run ${systemctl(step.service).join(' ')}`]
        : [
            'systemd does not run here: restart containerd, running containers go on; then run "thaw uninstall" again',
          ];
    case 'end-daemon':
      return [`end thaw-snapshotter (${step.daemon.pid})`];
    case 'remove-version':
      return [`remove ${join(prefix, step.version)}/`];
    case 'remove':
      return [`remove ${step.path}`];
  }
}

async function execute(
  node: Node,
  containerd: Containerd | undefined,
  context: Context,
  steps: readonly Step[],
): Promise<void> {
  const { prefix } = node.layout;
  // With --purge there may be data alone.
  await mkdir(prefix, { recursive: true, mode: 0o755 });
  const unlock = await lockPrefix(prefix);
  let record = await readRecord(prefix);
  let isCut = false;
  try {
    await sweep(prefix);
    for (const step of steps) {
      print(context, node, step);
      switch (step.kind) {
        case 'remove-image':
          await containerd?.within({ namespace: step.image.namespace }).images.remove(step.image.name);
          break;
        case 'remove-snapshots':
          if (containerd) await removeSnapshots(containerd);
          break;
        case 'restore': {
          const { entry, from, to, aside } = step.restore;
          if (isTheirs(step.restore)) {
            record = { ...record, containerdChanged: Date.now() };
            await writeRecord(prefix, record);
          }
          if (aside !== undefined) await putState(aside, from);
          await putState(entry.path, to);
          break;
        }
        case 'service':
          if (!node.hasSystemd) isCut = true;
          else if (step.service.kind === 'restart-containerd') await restartWithout(node, context);
          else await ask(node.machine, step.service);
          break;
        case 'end-daemon':
          await endDaemon(node, step.daemon);
          break;
        case 'remove-version':
          if (!(await removeUnused(prefix, step.version))) context.warn(await stays(prefix, step.version));
          break;
        case 'remove':
          await removeTree(step.path);
          break;
      }
    }
    if (isCut) return;
    await removeRecord(prefix);
    await rm(join(prefix, INSTALL_LOCK), { force: true });
    // Ours if nothing else is in it.
    await rmdir(prefix).catch(() => {});
    context.print('thaw is uninstalled');
  } finally {
    await unlock();
  }
}

async function restartWithout({ machine }: Node, context: Context): Promise<void> {
  await ask(machine, { kind: 'restart-containerd' });
  await containerdAnswers(machine, context, { withThaw: false });
}

async function stays(prefix: string, version: string): Promise<string> {
  const pids = (await runningIn(prefix)).filter((each) => each.version === version).map(({ pid }) => pid);
  const folder = join(prefix, version);
  return `warning: ${folder} stays, as processes run from it (${pids.join(', ')}): remove it with "rm -r ${folder}" when they have ended`;
}

const END_MS = 30_000;

async function endDaemon({ layout }: Node, { pid }: Running): Promise<void> {
  try {
    process.kill(pid, 'SIGTERM');
  } catch (error) {
    // It has ended since it was looked for: containerd may have been restarted meanwhile.
    if (describeError(error).code !== Code.notFound) throw error;
  }
  const until = performance.now() + END_MS;
  while ((await runningIn(layout.prefix)).some((each) => each.pid === pid)) {
    if (performance.now() > until)
      throw new InstallError(
        Code.deadlineExceeded,
        `thaw-snapshotter (${pid}) does not end: look at its log, then run "thaw uninstall" again`,
      );
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
