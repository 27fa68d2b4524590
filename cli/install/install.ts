import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { RETIRED } from '../../node-state/install-names.ts';
import { describeError } from '../../proto/status.ts';
import type { InstallOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { checkCgroup, checkKernel, checkUserfaultfd } from '../doctor/kernel.ts';
import type { DaemonConfig, Machine } from '../doctor/machine.ts';
import { checkCriu, checkRunc } from '../doctor/programs.ts';
import { reportLines } from '../doctor/run.ts';
import { printable } from '../ui/format.ts';
import { planContainerd, type ThawFacts } from './containerd-plan.ts';
import { containerdVersion, settingsOf, tryFiles } from './containerd-trial.ts';
import { refused } from './error.ts';
import { fingerprint, putState, stateOf } from './files.ts';
import { currentOf, links, shimOf, units } from './layout.ts';
import { changeLines } from './lines.ts';
import { daemonConfig, lockPrefix, lookAround, type Node, needsRestart, ownTree } from './node.ts';
import { type Area, type Change, readRecord, withChanges, writeRecord } from './record.ts';
import { ask, byHand, containerdAnswers, type Service, systemctl } from './services.ts';
import { withoutSettings } from './toml-edit.ts';
import {
  bringBack,
  daemonOf,
  placeTree,
  removeUnused,
  retire,
  sweep,
  type Version,
  versionOf,
  versionsIn,
} from './versions.ts';

type Step =
  | { kind: 'place'; version: Version }
  | { kind: 'change'; change: Change }
  | { kind: 'switch'; change: Pick<Change, 'path' | 'from' | 'to'> }
  | { kind: 'service'; service: Service }
  | { kind: 'retire'; version: string };

interface Plan {
  version: Version;
  steps: Step[];
  notes: string[];
}

/** `thaw install`: from any state of the node, also one that a killed installation left, to this version. */
export async function runInstall(options: InstallOptions, context: Context): Promise<void> {
  const node = await lookAround(options, context);
  try {
    const plan = await planInstall(node, options);
    for (const note of plan.notes) context.warn(`note: ${printable(note)}`);
    const steps = plan.steps.filter(({ kind }) => node.hasSystemd || kind !== 'service');
    if (options.dryRun) for (const step of steps) print(context, node, step);
    else await execute(node, context, { ...plan, steps });
    if (steps.length === 0) context.print(`thaw ${plan.version.name} is installed; nothing to change`);
    else if (!options.dryRun)
      context.print(`thaw ${plan.version.name} is installed in ${node.layout.prefix}`);
    if (!node.hasSystemd) sayByHand(context, node, options.config, plan);
  } finally {
    node.machine.close();
  }
}

async function planInstall(node: Node, options: InstallOptions): Promise<Plan> {
  const { layout, machine } = node;
  const { prefix } = layout;
  const tree = ownTree();
  const version = await versionOf(tree);
  if (!version) throw refused(`${tree} is no installation of thaw: run bin/thaw of an unpacked package`);
  const daemon = await daemonConfig(machine, tree, options.config);
  const shared = await readShared(tree);

  const steps: Step[] = [];
  const to = join(prefix, version.name);
  if (to !== tree && (await versionOf(to))?.build !== version.build) steps.push({ kind: 'place', version });
  const changes = await changesTo('system', [
    ...links(layout),
    ...(node.hasSystemd ? units(layout, daemon, options.config, (name) => shared(`systemd/${name}`)) : []),
  ]);
  steps.push(...changes.map((change): Step => ({ kind: 'change', change })));
  const current = { path: currentOf(prefix), from: await stateOf(currentOf(prefix)), to: link(version.name) };
  const switches = fingerprint(current.from) !== fingerprint(current.to);
  if (switches) steps.push({ kind: 'switch', change: current });

  const running = daemonOf(node.running);
  if (node.hasSystemd) {
    if (changes.some(({ path }) => dirname(path) === layout.unitDir))
      steps.push(service({ kind: 'reload-units' }));
    const enabled = await machine.run('systemctl', [
      'is-enabled',
      '--quiet',
      ...systemctl({ kind: 'enable' }).slice(2),
    ]);
    if (enabled?.code !== 0) steps.push(service({ kind: 'enable' }));
  }
  if (!running) steps.push(service({ kind: 'start' }));
  else if (running.version !== version.name) steps.push(service({ kind: 'hand-over', pid: running.pid }));

  const { changes: theirs, notes } = await containerdChanges(node, options, daemon, (name) =>
    shared(`containerd/${name}`),
  );
  steps.push(...theirs.map((change): Step => ({ kind: 'change', change })));
  if (node.containerdStarted !== undefined && (theirs.length > 0 || needsRestart(node)))
    steps.push(service({ kind: 'restart-containerd' }));
  for (const old of await versionsIn(prefix))
    if (old !== version.name && !(await isRetiredInUse(node, old)))
      steps.push({ kind: 'retire', version: old });
  return { version, steps, notes: [...notes, ...(await shortcomings(machine))] };
}

async function isRetiredInUse({ layout, machine, running }: Node, version: string): Promise<boolean> {
  const isRetired = await machine.exists(join(layout.prefix, version, RETIRED));
  return isRetired && running.some((process) => process.version === version);
}

/** What came from deploy/. */
async function readShared(tree: string): Promise<(path: string) => string> {
  const texts = new Map<string, string>();
  for (const path of SHARED) texts.set(path, await readFile(join(tree, 'share', path), 'utf8'));
  return (path) => texts.get(path) ?? '';
}

const SHARED = [
  'systemd/thaw-snapshotter.service',
  'systemd/thaw-snapshotter.socket',
  ...['whole-node', 'containerd'].flatMap((scope) =>
    ['2', '1.7'].map((kind) => `containerd/${scope}-${kind}.toml`),
  ),
];

function service(of: Service): Step {
  return { kind: 'service', service: of };
}

const link = (target: string) => ({ kind: 'link', target }) as const;

async function changesTo(
  area: Area,
  wanted: readonly { path: string; state: Change['to'] }[],
): Promise<Change[]> {
  const changes: Change[] = [];
  for (const { path, state } of wanted) {
    const from = await stateOf(path);
    if (fingerprint(from) !== fingerprint(state)) changes.push({ path, area, from, to: state });
  }
  return changes;
}

/** The drop-in before the main file, which may import it. All of it was read by containerd and found to be right. */
async function containerdChanges(
  { machine, layout, containerdConfig: path }: Node,
  { images: scope }: InstallOptions,
  daemon: DaemonConfig,
  dropIn: ThawFacts['dropIn'],
): Promise<{ changes: Change[]; notes: string[] }> {
  const version = await containerdVersion(machine);
  const now = await stateOf(path);
  const theirs = now.kind === 'file' ? withoutSettings(now.text) : '';
  const facts = { version, main: { path, text: theirs }, settings: {} };
  const thaw: ThawFacts = { scope, daemon, shim: shimOf(layout.prefix), dropIn };
  // Once for what it refuses, before containerd is asked.
  const { main } = planContainerd(facts, thaw);
  const versionOnly = theirs.trim() === '' ? (/^version = .*$/m.exec(main)?.[0] ?? '') : '';
  const before = await settingsOf(machine, path, { main: `${versionOnly}\n${theirs}`, dropIn: undefined });
  const files = planContainerd({ ...facts, settings: before.settings }, thaw);
  await tryFiles(machine, path, before.settings, files, { version, daemon });
  const mode = now.kind === 'file' ? now.mode : 0o644;
  const wanted = [
    ...(files.dropIn
      ? [{ path: files.dropIn.path, state: { kind: 'file', mode: 0o644, text: files.dropIn.text } as const }]
      : []),
    { path, state: { kind: 'file', mode, text: files.main } as const },
  ];
  return { changes: await changesTo('containerd', wanted), notes: files.notes };
}

/** What keeps this node from restoring. Pods start cold on it all the same. */
async function shortcomings(machine: Machine): Promise<string[]> {
  const checks = [checkKernel, checkUserfaultfd, checkCgroup, checkCriu, checkRunc];
  const findings = (await Promise.all(checks.map((check) => check(machine)))).flat();
  return findings.filter(({ status }) => status !== 'ok').flatMap(reportLines);
}

function print(context: Context, node: Node, step: Step): void {
  for (const line of linesOf(node, step)) context.print(printable(line));
}

function linesOf({ layout: { prefix } }: Node, step: Step): string[] {
  switch (step.kind) {
    case 'place':
      return [`write ${join(prefix, step.version.name)}/`];
    case 'change':
    case 'switch':
      return changeLines(step.change);
    case 'service':
      return [`run ${systemctl(step.service).join(' ')}`];
    case 'retire':
      return [`remove ${join(prefix, step.version)}/ when no process runs from it`];
  }
}

async function execute(node: Node, context: Context, plan: Plan): Promise<void> {
  const { prefix } = node.layout;
  await mkdir(prefix, { recursive: true, mode: 0o755 });
  const unlock = await lockPrefix(prefix);
  try {
    await sweep(prefix);
    await bringBack(prefix, plan.version.name);
    const changes = plan.steps.flatMap((step) => (step.kind === 'change' ? [step.change] : []));
    let record = withChanges(await readRecord(prefix), changes);
    if (changes.length > 0) await writeRecord(prefix, record);
    const theirs = changes.filter(({ area }) => area === 'containerd');
    for (const step of plan.steps) {
      print(context, node, step);
      switch (step.kind) {
        case 'place':
          await placeTree(ownTree(), prefix, step.version);
          break;
        case 'change':
          if (step.change === theirs[0]) {
            record = { ...record, containerdChanged: Date.now() };
            await writeRecord(prefix, record);
          }
          await putState(step.change.path, step.change.to);
          break;
        case 'switch':
          await putState(step.change.path, step.change.to);
          break;
        case 'service':
          if (step.service.kind === 'restart-containerd') await restartContainerd(node, context, theirs);
          else await ask(node.machine, step.service);
          break;
        case 'retire':
          await retire(prefix, step.version);
          await removeUnused(prefix, step.version);
          break;
      }
    }
  } finally {
    await unlock();
  }
}

/** containerd works with what was put in place, or is back with what was there. */
async function restartContainerd(node: Node, context: Context, changes: readonly Change[]): Promise<void> {
  try {
    await ask(node.machine, { kind: 'restart-containerd' });
    await containerdAnswers(node.machine, context, { withThaw: true });
  } catch (cause) {
    // In the other order: the main file may import the drop-in.
    for (const { path, from } of [...changes].reverse()) await putState(path, from);
    if (changes.length > 0) await ask(node.machine, { kind: 'restart-containerd' });
    const now = changes.length > 0 ? '; its configuration is as it was' : '';
    throw refused(`${describeError(cause).message}${now}: see "journalctl -u containerd"`, { cause });
  }
}

/** The services of the plan, in words for somebody without systemd. */
function sayByHand(context: Context, { layout }: Node, config: string | undefined, { steps }: Plan): void {
  const lines = steps.flatMap((step) =>
    step.kind === 'service' ? (byHand(step.service, layout.prefix, config) ?? []) : [],
  );
  if (lines.length === 0) return;
  context.print('systemd does not run here; what is left to you, in this order:');
  for (const line of lines) context.print(`  ${line}`);
}
