/**
 * Removes what a failed or killed restore leaves outside its process tree: runc's state and CRIU's bind of the root file
 * system, the container's cgroups, CRIU's temporary directories.
 */
import { readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const MNT_DETACH = 2;
const ATTEMPTS = 100;
const PAUSE_MS = 10;

export interface TraceDeps {
  umount(target: string, flags: number): void;
  /** Content of /proc/self/mountinfo. */
  mountinfo(): Promise<string>;
}

/** Mount points of the cgroup hierarchies. Source: proc_pid_mountinfo(5), field 5 and the file system type. */
export function cgroupMounts(mountinfo: string): string[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [fields = '', source = ''] = line.split(' - ');
    const target = fields.split(' ')[4];
    return target && /^cgroup2? /.test(source) ? [decodeOctal(target)] : [];
  });
}

/** Octal escapes of mountinfo. */
function decodeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/**
 * The container's directory below each hierarchy. None for the systemd form "slice:prefix:name": systemd removes an
 * empty scope by itself. None for a relative or odd path: better an empty cgroup too many than a wrong one removed.
 */
export function cgroupDirs(cgroupsPath: string | undefined, mounts: readonly string[]): string[] {
  if (!cgroupsPath?.startsWith('/') || cgroupsPath.includes(':')) return [];
  const path = normalize(cgroupsPath);
  if (path === '/' || path !== cgroupsPath.replace(/\/+$/, '')) return [];
  return mounts.map((mount) => join(mount, path));
}

/** CRIU's mkdtemp names in its own log, so that nobody else's are touched. */
export function criuTempDirs(log: string): string[] {
  return [...new Set(log.match(/\/tmp\/\.criu\.[a-z]+\.[A-Za-z0-9]{6}\b/g) ?? [])];
}

/** Ends what still runs in a cgroup and removes it with its children. A directory that is gone already is fine. */
export async function removeCgroup(dir: string): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const children = await readdir(dir, { withFileTypes: true }).catch(() => undefined);
    if (!children) return;
    for (const child of children) if (child.isDirectory()) await removeCgroup(join(dir, child.name));
    for (const pid of await cgroupProcesses(dir)) kill(pid);
    try {
      await rmdir(dir);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
    }
    // A zombie keeps its cgroup busy until whoever adopted it has reaped it.
    await sleep(PAUSE_MS);
  }
}

async function cgroupProcesses(dir: string): Promise<number[]> {
  const text = await readFile(join(dir, 'cgroup.procs'), 'utf8').catch(() => '');
  // 0 is a process of a PID namespace that is not below ours, and to kill(2) our own group.
  return text
    .split('\n')
    .map(Number)
    .filter((pid) => pid > 0);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone between the look and the kill.
  }
}

/** Unmounts everything at or below a directory, innermost first. */
async function unmountBelow(dir: string, deps: TraceDeps): Promise<void> {
  const targets = (await mountTargets(deps)).filter(
    (target) => target === dir || target.startsWith(`${dir}/`),
  );
  for (const target of targets.toReversed()) deps.umount(target, MNT_DETACH);
}

/**
 * Unmounts the cgroup hierarchies that CRIU mounts in its work directory, and nothing else there: the directory is
 * somebody's own. Source: criu/cgroup.c, ".criu.cgyard.XXXXXX".
 */
export async function unmountCgroupYard(workDir: string, deps: TraceDeps): Promise<void> {
  const yard = `${workDir}/.criu.cgyard.`;
  for (const target of (await mountTargets(deps)).filter((one) => one.startsWith(yard)).toReversed())
    deps.umount(target, MNT_DETACH);
}

async function mountTargets(deps: TraceDeps): Promise<string[]> {
  return (await deps.mountinfo()).split('\n').map((line) => decodeOctal(line.split(' ')[4] ?? ''));
}

/** Removes a directory with all that is mounted there, and never what is mounted itself. */
export async function removeMountedDir(dir: string, deps: TraceDeps): Promise<void> {
  await unmountBelow(dir, deps);
  await rm(dir, { recursive: true, force: true });
}
