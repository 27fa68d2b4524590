/** Mount options as containerd writes them (those of mount(8)) into flags and data of mount(2). */
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';

const MS = {
  rdonly: 0x1,
  nosuid: 0x2,
  nodev: 0x4,
  noexec: 0x8,
  synchronous: 0x10,
  remount: 0x20,
  mandlock: 0x40,
  dirsync: 0x80,
  nosymfollow: 0x100,
  noatime: 0x400,
  nodiratime: 0x800,
  bind: 0x1000,
  rec: 0x4000,
  unbindable: 0x20000,
  private: 0x40000,
  slave: 0x80000,
  shared: 0x100000,
  relatime: 0x200000,
  strictatime: 0x1000000,
} as const;

export const MS_BIND = MS.bind;
export const MS_REMOUNT = MS.remount;
export const MS_RDONLY = MS.rdonly;

/** Flags that a bind mount ignores unless it is mounted again. */
const NEEDS_REMOUNT =
  MS.rdonly | MS.nosuid | MS.nodev | MS.noexec | MS.noatime | MS.nodiratime | MS.relatime | MS.nosymfollow;

const SET: Readonly<Record<string, number>> = {
  bind: MS.bind,
  rbind: MS.bind | MS.rec,
  ro: MS.rdonly,
  nosuid: MS.nosuid,
  nodev: MS.nodev,
  noexec: MS.noexec,
  sync: MS.synchronous,
  remount: MS.remount,
  mand: MS.mandlock,
  dirsync: MS.dirsync,
  nosymfollow: MS.nosymfollow,
  noatime: MS.noatime,
  nodiratime: MS.nodiratime,
  relatime: MS.relatime,
  strictatime: MS.strictatime,
  defaults: 0,
};

const CLEAR: Readonly<Record<string, number>> = {
  rw: MS.rdonly,
  suid: MS.nosuid,
  dev: MS.nodev,
  exec: MS.noexec,
  async: MS.synchronous,
  nomand: MS.mandlock,
  atime: MS.noatime,
  diratime: MS.nodiratime,
  norelatime: MS.relatime,
  nostrictatime: MS.strictatime,
};

const PROPAGATION: Readonly<Record<string, number>> = {
  private: MS.private,
  rprivate: MS.private | MS.rec,
  shared: MS.shared,
  rshared: MS.shared | MS.rec,
  slave: MS.slave,
  rslave: MS.slave | MS.rec,
  unbindable: MS.unbindable,
  runbindable: MS.unbindable | MS.rec,
};

export interface ParsedOptions {
  flags: number;
  /** What the file system itself reads, in order. */
  data: string[];
  /** Flags of a mount(2) call of its own, or 0. */
  propagation: number;
  /** Flags of the second mount(2) call that a bind mount needs to become read-only and the like, or 0. */
  remount: number;
  /** The source is a file to be made a block device first. */
  loop: boolean;
  /** Whose files the mount shows; undefined: as they are. */
  idMap: IdMap | undefined;
}

/** Lines of "<inside> <outside> <count>", as user_namespaces(7) has them. */
export interface IdMap {
  users: string;
  groups: string;
}

export function parseMountOptions(options: readonly string[]): ParsedOptions {
  let flags = 0;
  let propagation = 0;
  let loop = false;
  const maps: { users?: string; groups?: string } = {};
  const data: string[] = [];
  for (const option of options) {
    const set = lookup(SET, option);
    const clear = lookup(CLEAR, option);
    const propagate = lookup(PROPAGATION, option);
    if (set !== undefined) flags |= set;
    else if (clear !== undefined) flags &= ~clear;
    else if (propagate !== undefined) propagation |= propagate;
    else if (option === 'loop') loop = true;
    else if (option.startsWith('uidmap=')) maps.users = parseIdMap(option);
    else if (option.startsWith('gidmap=')) maps.groups = parseIdMap(option);
    else if (option) data.push(option);
  }
  const remount = flags & MS.bind && flags & NEEDS_REMOUNT ? (flags & ~MS.rec) | MS.remount | MS.bind : 0;
  const { users, groups } = maps;
  if ((users === undefined) !== (groups === undefined))
    throw new ShimError(Code.invalidArgument, 'Cannot map users without groups: give both uidmap and gidmap');
  const idMap = users !== undefined && groups !== undefined ? { users, groups } : undefined;
  return { flags, data, propagation, remount, loop, idMap };
}

/** Flags as the options that they came from, for what takes no numbers. */
export function flagNames(flags: number): string[] {
  return Object.entries(SET).flatMap(([name, bits]) => (bits !== 0 && (flags & bits) === bits ? name : []));
}

/** Of "uidmap=<inside>:<outside>:<count>[,…]", as containerd writes it for a pod with a user namespace. */
function parseIdMap(option: string): string {
  const lines = option
    .slice(option.indexOf('=') + 1)
    .split(',')
    .map((range) => {
      const numbers = range.split(':');
      if (numbers.length !== 3 || !numbers.every((number) => /^\d{1,10}$/.test(number)))
        throw new ShimError(
          Code.invalidArgument,
          `Cannot understand the mount option "${option}": use <inside>:<outside>:<count>`,
        );
      return numbers.join(' ');
    });
  return lines.join('\n');
}

export interface OverlayLayout {
  /** Topmost first. */
  lower: string[];
  upper: string;
  work: string;
  rest: string[];
}

/**
 * Directories of an overlay mount's data. A colon inside a directory name is written as "\:" (overlayfs.rst), so the
 * list is split at unescaped colons only.
 */
export function overlayLayout(data: readonly string[]): OverlayLayout {
  const layout: OverlayLayout = { lower: [], upper: '', work: '', rest: [] };
  for (const option of data) {
    const at = option.indexOf('=');
    const value = option.slice(at + 1);
    switch (at < 0 ? '' : option.slice(0, at)) {
      case 'lowerdir':
        layout.lower = splitLower(value);
        break;
      case 'upperdir':
        layout.upper = value;
        break;
      case 'workdir':
        layout.work = value;
        break;
      default:
        layout.rest.push(option);
    }
  }
  return layout;
}

function splitLower(value: string): string[] {
  return value.split(/(?<!\\):/).map((directory) => directory.replaceAll('\\:', ':'));
}

function lookup(table: Readonly<Record<string, number>>, key: string): number | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}
