/**
 * The FUSE mount that the tars of lazy layers are files of, and the process that keeps its descriptor: a mount whose last
 * descriptor of /dev/fuse closes is dead for ever, so it must not end with this daemon.
 */
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { describeError } from '../../proto/status.ts';
import { unavailable } from '../error.ts';

export interface DeviceCalls {
  mount(source: string, target: string, fstype: string, flags: number, data: string): void;
  umount(target: string, flags: number): void;
  takeDescriptor(pid: number, descriptor: number): number;
  /** Starts the holder with the device as its descriptor 3, and resolves when it outlives this process. */
  startHolder(device: number): Promise<number>;
}

export interface DeviceOptions {
  /** Where it is mounted. */
  directory: string;
  /** Names the holder; on a file system that a boot empties. */
  recordFile: string;
  calls: DeviceCalls;
}

export interface Device {
  fd: number;
  /** It was mounted by an earlier daemon. */
  taken: boolean;
}

const HELD = 3;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const MNT_DETACH = 2;

/**
 * The device of the mount, made if there is none that lives. As long as nobody serves it, whatever asks for the mounted
 * directory itself waits for ever: nothing here does.
 */
export async function openDevice({ directory, recordFile, calls }: DeviceOptions): Promise<Device> {
  const held = heldDevice(recordFile, calls);
  if (held !== undefined && mountPoints().has(directory)) return { fd: held, taken: true };
  if (held !== undefined) closeSync(held);
  // What is mounted there has no server any more, and never will.
  detach(directory, calls);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const fd = openSync('/dev/fuse', 'r+');
  try {
    const options = `fd=${fd},rootmode=40000,user_id=0,group_id=0`;
    calls.mount('thaw-layers', directory, 'fuse.thaw', MS_NOSUID | MS_NODEV | MS_NOEXEC, options);
    const pid = await calls.startHolder(fd);
    writeFileSync(`${recordFile}.new`, JSON.stringify({ pid, started: startOf(pid) }), { mode: 0o600 });
    renameSync(`${recordFile}.new`, recordFile);
    return { fd, taken: false };
  } catch (cause) {
    closeSync(fd);
    detach(directory, calls);
    const { message } = describeError(cause);
    throw unavailable(`Cannot serve lazy layers: ${message}`, { cause });
  }
}

/** Where something is mounted, as this process sees it: proc(5), mountinfo. */
export function mountPoints(): Set<string> {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return new Set(lines.map((line) => line.split(' ')[4] ?? ''));
}

/** Its holder ends with it. */
export function closeDevice({ directory, recordFile, calls }: DeviceOptions): void {
  rmSync(recordFile, { force: true });
  detach(directory, calls);
}

function heldDevice(recordFile: string, calls: DeviceCalls): number | undefined {
  try {
    const { pid, started } = JSON.parse(readFileSync(recordFile, 'utf8')) as { pid: number; started: string };
    // A number may be another process's by now.
    if (startOf(pid) !== started) return undefined;
    return calls.takeDescriptor(pid, HELD);
  } catch {
    return undefined;
  }
}

/** Clock ticks after boot: proc(5), /proc/pid/stat, field 22. */
function startOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

function detach(directory: string, calls: DeviceCalls): void {
  try {
    calls.umount(directory, MNT_DETACH);
  } catch {
    // Nothing was mounted there.
  }
}
