/** The versions below a prefix, and which of them processes run from. */
import {
  constants,
  cp,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { INSTALL_LOCK, RETIRED } from '../../node-state/install-names.ts';
import { orUndefined } from '../missing.ts';
import { refused } from './error.ts';
import { syncDirectory } from './files.ts';
import { RECORD } from './record.ts';

/** Of a tree: its version, and what it was made of. */
export interface Version {
  name: string;
  build: string;
}

/** Written last when a folder is made (scripts/stage): one that has it is whole. */
const VERSION = 'VERSION';

/** Undefined for a folder that is no installation, or half of one. */
export async function versionOf(tree: string): Promise<Version | undefined> {
  const text = await orUndefined(readFile(join(tree, VERSION), 'utf8'));
  const [name = '', build = ''] = (text ?? '').split('\n');
  return /^[0-9A-Za-z][0-9A-Za-z.+_-]*$/.test(name) && build !== '' ? { name, build } : undefined;
}

export async function versionsIn(prefix: string): Promise<string[]> {
  const entries = (await orUndefined(readdir(prefix, { withFileTypes: true }))) ?? [];
  const found: string[] = [];
  for (const entry of entries)
    if (entry.isDirectory() && (await versionOf(join(prefix, entry.name)))?.name === entry.name)
      found.push(entry.name);
  return found.sort();
}

export interface Running {
  pid: number;
  version: string;
  /** Its command line, the program first. */
  command: readonly string[];
  /** Milliseconds of the epoch, to about 10 ms. */
  started: number;
}

/** Processes but this one whose program lies below `prefix`; also one that was replaced or deleted since. */
export async function runningIn(prefix: string, proc = '/proc'): Promise<Running[]> {
  const base = (await orUndefined(realpath(prefix))) ?? prefix;
  const found: Running[] = [];
  for (const { pid, program } of await processes(proc)) {
    // Whoever asks may be the installed `thaw` itself, and needs nothing more of its folder.
    if (pid === process.pid || !program.startsWith(`${base}/`)) continue;
    const facts = await orUndefined(about(proc, pid));
    const version = program.slice(base.length + 1).split('/')[0] ?? '';
    if (facts) found.push({ pid, version, ...facts });
  }
  return found;
}

/** The daemon that serves this node, if it runs. */
export function daemonOf(running: readonly Running[]): Running | undefined {
  return running.find(({ command }) => command.some((word) => /\/lib\/thaw-snapshotter\.mjs$/.test(word)));
}

export function shimsOf(running: readonly Running[]): Running[] {
  return running.filter(({ command }) => command.some((word) => /\/lib\/shim\.cjs$/.test(word)));
}

/** Processes of a program, by the name of its file. */
export async function runningProgram(
  name: string,
  proc = '/proc',
): Promise<{ pid: number; started: number }[]> {
  const found: { pid: number; started: number }[] = [];
  for (const { pid, program } of await processes(proc)) {
    if (
      program
        .replace(/ \(deleted\)$/, '')
        .split('/')
        .at(-1) !== name
    )
      continue;
    const facts = await orUndefined(about(proc, pid));
    if (facts) found.push({ pid, started: facts.started });
  }
  return found;
}

async function processes(proc: string): Promise<{ pid: number; program: string }[]> {
  const found: { pid: number; program: string }[] = [];
  for (const entry of await readdir(proc)) {
    if (!/^\d+$/.test(entry)) continue;
    // Kernel threads have none, and a process may end meanwhile.
    const program = await readlink(join(proc, entry, 'exe')).catch(() => undefined);
    if (program !== undefined) found.push({ pid: Number(entry), program });
  }
  return found;
}

/** Source: proc(5): the start is the 22nd field of stat, in hundredths of a second since boot. */
async function about(proc: string, pid: number): Promise<Pick<Running, 'command' | 'started'>> {
  const [cmdline, stat, uptime] = await Promise.all([
    readFile(join(proc, String(pid), 'cmdline'), 'utf8'),
    readFile(join(proc, String(pid), 'stat'), 'utf8'),
    readFile(join(proc, 'uptime'), 'utf8'),
  ]);
  const ticks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  const sinceBoot = Number(uptime.split(' ')[0]) * 1000;
  return { command: cmdline.split('\0').slice(0, -1), started: Date.now() - sinceBoot + ticks * 10 };
}

/** Copies a folder to `PREFIX/NAME`, where it appears whole or not at all. */
export async function placeTree(tree: string, prefix: string, { name, build }: Version): Promise<void> {
  const to = join(prefix, name);
  const [next, old] = [join(prefix, `.${name}.new`), join(prefix, `.${name}.old`)];
  const present = await versionOf(to);
  if (present?.build === build) return;
  const users = (await runningIn(prefix)).filter(({ version }) => version === name);
  if (present && users.length > 0)
    throw refused(
      `${to} is another build of ${name}, and ${users.length} processes run from it (${users[0]?.pid}): give this one a version of its own`,
    );
  await mkdir(prefix, { recursive: true, mode: 0o755 });
  for (const path of [next, old]) await rm(path, { recursive: true, force: true });
  await cp(tree, next, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  await rm(join(next, RETIRED), { force: true });
  await syncTree(next);
  if ((await orUndefined(lstat(to))) !== undefined) await rename(to, old);
  await rename(next, to);
  await syncDirectory(prefix);
  await rm(old, { recursive: true, force: true });
}

async function syncTree(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) {
      const handle = await open(path, constants.O_RDONLY);
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    }
  }
  await syncDirectory(directory);
}

const isHalf = (name: string) => /^\..+\.(new|old)$/.test(name);

/** What a killed installation left. The caller holds the prefix's lock. */
export async function sweep(prefix: string): Promise<void> {
  for (const name of await readdir(prefix))
    if (isHalf(name)) await rm(join(prefix, name), { recursive: true, force: true });
}

/** Whether a killed installation left anything, if only an empty folder. */
export async function hasRemains(prefix: string): Promise<boolean> {
  const names = await orUndefined(readdir(prefix));
  if (names === undefined) return false;
  return names.length === 0 || names.some((name) => isHalf(name) || name === RECORD || name === INSTALL_LOCK);
}

/** The version goes when nobody runs from it any more; the daemon may just have seen to that. */
export async function retire(prefix: string, version: string): Promise<void> {
  await orUndefined(writeFile(join(prefix, version, RETIRED), ''));
}

export async function bringBack(prefix: string, version: string): Promise<void> {
  await rm(join(prefix, version, RETIRED), { force: true });
}

/** Removes it in one step for whoever looks; false where a process runs from it. */
export async function removeUnused(prefix: string, version: string): Promise<boolean> {
  if ((await runningIn(prefix)).some((running) => running.version === version)) return false;
  const gone = join(prefix, `.${version}.old`);
  await rm(gone, { recursive: true, force: true });
  await orUndefined(rename(join(prefix, version), gone));
  await rm(gone, { recursive: true, force: true });
  return true;
}
