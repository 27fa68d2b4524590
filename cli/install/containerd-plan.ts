/** What thaw adds to containerd's configuration, and how that is judged before anything is put in place. Pure. */
import { basename, dirname, isAbsolute, join } from 'node:path';
import { parse, stringify, type TomlTable, type TomlValue } from 'smol-toml';
import { isThaw } from '../doctor/images.ts';
import type { DaemonConfig } from '../doctor/machine.ts';
import { isAtLeast } from '../doctor/version.ts';
import { refused } from './error.ts';
import { isTable, withSettings } from './toml-edit.ts';

/** Every image of the node on thaw, or those of pods of the runtime class alone. */
export type Scope = 'node' | 'class';

export interface ContainerdFacts {
  /** As `containerd --version` has it. */
  version: string;
  /** Of its main file; undefined if there is none. */
  main: { path: string; text: string | undefined };
  /** `containerd config dump`, without what thaw added. */
  settings: TomlTable;
}

export interface ThawFacts {
  scope: Scope;
  daemon: DaemonConfig;
  /** The shim program, by the link that outlives versions. */
  shim: string;
  /** A drop-in of deploy/containerd by its name. */
  dropIn(name: string): string;
}

export interface ContainerdFiles {
  main: string;
  /** Undefined where all of it is in the main file. */
  dropIn: { path: string; text: string } | undefined;
  /** What the user should know. */
  notes: string[];
}

/** Throws where thaw cannot be added; then nothing is to be changed. */
export function planContainerd(facts: ContainerdFacts, thaw: ThawFacts): ContainerdFiles {
  const { version, main } = facts;
  if (!isAtLeast(version, 1, 7) || isAtLeast(version, 3))
    throw refused(
      `containerd here is ${version}, and thaw needs 1.7 or 2.x: older ones have no snapshotter for each runtime; update it first`,
    );
  const { text = '' } = main;
  const present = parse(text);
  const isNew = Object.keys(present).length === 0;
  const declared = isNew ? (isAtLeast(version, 2) ? 3 : 2) : (present['version'] ?? 1);
  if (declared !== 2 && declared !== 3)
    throw refused(
      `${main.path} is of version ${String(declared)}: bring it to a newer one first ("containerd config migrate" prints it)`,
    );
  const notes: string[] = [];
  if (disablesCri(present))
    notes.push(
      `${main.path} disables the CRI plug-in (disabled_plugins): a kubelet cannot use this containerd`,
    );
  const settings = settingsFor(declared, facts, thaw);
  if (!isAtLeast(version, 2)) keepRuntimes(settings, present, facts.settings);
  const base = isNew ? withSettings(text, { version: declared }).text : text;
  if (!isAtLeast(version, 2)) {
    // An imported file replaces whole plug-in sections in 1.7, with all that others set there.
    const edited = withSettings(base, settings);
    if (!edited.isByLine)
      notes.push(
        `${main.path} is written anew, as its tables have no place for lines: comments in it are lost`,
      );
    return { main: edited.text, dropIn: undefined, notes };
  }
  const path = join(dirname(main.path), 'conf.d/thaw.toml');
  const dropIn = {
    path,
    text: `# From "thaw install", which writes it again: put nothing else here.\n${stringify(settings)}`,
  };
  const imports = importsOf(present);
  if (imports.some((pattern) => covers(pattern, path, main.path))) return { main: base, dropIn, notes };
  const edited = withSettings(base, { imports: [...imports, path] });
  if (!edited.isByLine) notes.push(`${main.path} is written anew: comments in it are lost`);
  return { main: edited.text, dropIn, notes };
}

/** The drop-in of deploy/containerd with this node's own values. */
function settingsFor(declared: 2 | 3, { version, settings }: ContainerdFacts, thaw: ThawFacts): TomlTable {
  const { scope, daemon, shim } = thaw;
  if (scope === 'class' && declared === 2 && isAtLeast(version, 2) && !isAtLeast(version, 2, 3))
    throw refused(
      `containerd ${version} needs a main file of version 3 for a snapshotter of one runtime class alone: bring it there ("containerd config migrate" prints it), or use --images node`,
    );
  const name = `${scope === 'node' ? 'whole-node' : 'containerd'}-${declared === 3 ? '2' : '1.7'}.toml`;
  const fragment = parse(thaw.dropIn(name));
  const plugin = table(table(fragment, 'proxy_plugins'), 'thaw');
  plugin['address'] = daemon.address;
  table(plugin, 'exports')['root'] = daemon.root;
  // containerd hands SystemdCgroup to runtimes of that type alone; the shim is then named by its path.
  if (usesSystemdCgroup(settings)) {
    const runtime = runtimesOf(fragment)['thaw'];
    if (isTable(runtime))
      Object.assign(runtime, {
        runtime_type: 'io.containerd.runc.v2',
        runtime_path: shim,
        options: { SystemdCgroup: true },
      });
  }
  return fragment;
}

/**
 * containerd 1.7 drops its own runtime runc, which pods get by default, as soon as a file names any other: so it is written down
 * where the file has none.
 */
function keepRuntimes(ours: TomlTable, main: TomlTable, settings: TomlTable): void {
  if (Object.keys(runtimesOf(main)).length > 0) return;
  const runtimes = runtimesOf(ours);
  for (const [name, runtime] of Object.entries(runtimesOf(settings)))
    if (isTable(runtime) && runtimes[name] === undefined) runtimes[name] = withoutEmpty(runtime);
}

/** What has a value that is not Go's default. */
function withoutEmpty(from: TomlTable): TomlTable {
  const entries = Object.entries(from).map(([key, value]): [string, TomlValue] => [
    key,
    isTable(value) ? withoutEmpty(value) : value,
  ]);
  return Object.fromEntries(entries.filter(([, value]) => !isEmpty(value)));
}

function usesSystemdCgroup(settings: TomlTable): boolean {
  return Object.values(runtimesOf(settings)).some(
    (runtime) =>
      isTable(runtime) &&
      !isThaw(String(runtime['runtime_path'] ?? '')) &&
      isTable(runtime['options']) &&
      runtime['options']['SystemdCgroup'] === true,
  );
}

function runtimesOf(config: TomlTable): TomlTable {
  const plugins = table(config, 'plugins');
  const owner = ['io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri']
    .map((id) => table(table(plugins, id), 'containerd'))
    .find((section) => isTable(section['runtimes']));
  return owner === undefined ? {} : table(owner, 'runtimes');
}

function table(parent: TomlTable, key: string): TomlTable {
  const value = parent[key];
  return isTable(value) ? value : {};
}

export function importsOf(main: TomlTable): string[] {
  const imports = main['imports'];
  return Array.isArray(imports) ? imports.filter((entry) => typeof entry === 'string') : [];
}

/** Whether an entry of `imports` names this file. Source: containerd, cmd/containerd/server/config: filepath.Glob. */
function covers(pattern: string, path: string, main: string): boolean {
  const absolute = isAbsolute(pattern) ? pattern : join(dirname(main), pattern);
  if (absolute === path) return true;
  if (dirname(absolute) !== dirname(path) || !basename(absolute).includes('*')) return false;
  const expression = basename(absolute)
    .split('*')
    .map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'))
    .join('.*');
  return new RegExp(`^${expression}$`).test(basename(path));
}

/** The main file as it is tried: its imports by absolute path, and the drop-in from where it lies for the trial. */
export function onTrial(
  mainText: string,
  mainPath: string,
  dropIn: { path: string; trial: string } | undefined,
): string {
  const main = parse(mainText);
  const imports = importsOf(main).map((entry) =>
    isAbsolute(entry) ? entry : join(dirname(mainPath), entry),
  );
  const others = imports.filter((entry) => entry !== dropIn?.path);
  const wanted = dropIn === undefined ? others : [...others, dropIn.trial];
  return stringify(wanted.length > 0 || imports.length > 0 ? { ...main, imports: wanted } : main);
}

function disablesCri(main: TomlTable): boolean {
  const disabled = main['disabled_plugins'];
  return Array.isArray(disabled) && disabled.some((name) => /(^|\.)cri$|\.cri\./.test(String(name)));
}

/** Settings, as dotted paths, that differ though thaw has no business with them. */
export function foreignChanges(before: TomlTable, after: TomlTable): string[] {
  const [left, right] = [flat(before), flat(after)];
  return [...new Set([...left.keys(), ...right.keys()])].filter(
    (path) => left.get(path) !== right.get(path) && !isOurs(path),
  );
}

const OURS = [
  /^(version|imports)$/,
  /^proxy_plugins\.thaw\./,
  /^plugins\.io\.containerd\.(cri\.v1\.images|grpc\.v1\.cri\.containerd)\.(snapshotter|disable_snapshot_annotations)$/,
  /^plugins\.io\.containerd\.cri\.v1\.images\.runtime_platforms\.thaw\./,
  /^plugins\.io\.containerd\.(cri\.v1\.runtime|grpc\.v1\.cri)\.containerd\.runtimes\.thaw\./,
  /^plugins\.io\.containerd\.transfer\.v1\.local\.unpack_config$/,
];

function isOurs(path: string): boolean {
  return OURS.some((pattern) => pattern.test(path));
}

/** Values by dotted path. A dump has what is empty in some tables and not in others: it counts as not there. */
function flat(value: TomlValue, path = '', into = new Map<string, string>()): Map<string, string> {
  if (isTable(value))
    for (const [key, below] of Object.entries(value)) flat(below, path === '' ? key : `${path}.${key}`, into);
  else if (!isEmpty(value))
    into.set(
      path,
      JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? String(each) : each)),
    );
  return into;
}

/** Go's zero values. */
function isEmpty(value: TomlValue): boolean {
  return isTable(value) || Array.isArray(value) ? Object.keys(value).length === 0 : !value;
}
