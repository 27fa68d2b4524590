/** Listening sockets that systemd made and holds (socket activation, sd_listen_fds(3)): they outlive the daemon. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { failedPrecondition } from './error.ts';

/** The first descriptor that is handed over. */
const FIRST_FD = 3;
const MAX_SOCKETS = 16;

/** Descriptors by the path that they listen on. */
export type InheritedSockets = ReadonlyMap<string, number>;

/** Pure: the descriptors that were meant for this very process. */
export function inheritedDescriptors(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): number[] {
  if (environment['LISTEN_PID'] !== String(pid)) return [];
  const count = Number(environment['LISTEN_FDS']);
  if (!Number.isInteger(count) || count < 1 || count > MAX_SOCKETS) return [];
  return Array.from({ length: count }, (_, i) => FIRST_FD + i);
}

/**
 * Pure: the path of each listening unix socket by its inode. Source: proc_net(5), /proc/net/unix: the fourth column has
 * __SO_ACCEPTCON (0x10000) for those that listen, the seventh is the inode, the eighth the path, which may hold spaces.
 */
export function socketPaths(procNetUnix: string): Map<string, string> {
  const paths = new Map<string, string>();
  for (const line of procNetUnix.split('\n')) {
    const [, inode, path] = /^\S+: \S+ \S+ 00010000 \S+ \S+ +(\d+) (\/.*)$/.exec(line) ?? [];
    if (inode !== undefined && path !== undefined) paths.set(inode, path);
  }
  return paths;
}

/** What is handed over, by path: a unit may name its sockets in any order. */
export function inheritedSockets(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): InheritedSockets {
  const descriptors = inheritedDescriptors(environment, pid);
  if (descriptors.length === 0) return new Map();
  const paths = listeningPaths();
  return new Map(descriptors.map((fd) => [paths.get(inodeOf(fd)) ?? `descriptor ${fd}`, fd]));
}

/** The descriptor of this process that listens on a path. */
export function listeningDescriptor(path: string): number | undefined {
  const paths = listeningPaths();
  return readdirSync('/proc/self/fd')
    .map(Number)
    .find((fd) => paths.get(inodeOf(fd)) === path);
}

function listeningPaths(): Map<string, string> {
  return socketPaths(readFileSync('/proc/net/unix', 'utf8'));
}

function inodeOf(fd: number): string {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1] ?? '';
  } catch {
    // The one that the folder was read with.
    return '';
  }
}

/** FAILED_PRECONDITION if a socket is held that nobody would ever answer. */
export function checkInherited(sockets: InheritedSockets, wanted: readonly string[]): void {
  for (const path of sockets.keys())
    if (!wanted.includes(path))
      throw failedPrecondition(
        `Cannot use the socket "${path}" that was handed over: the configuration wants ${wanted.map((each) => `"${each}"`).join(' and ')}; name these in thaw-snapshotter.socket, and restart the daemon instead of reloading it`,
      );
}
