/** From /proc/PID/cgroup (cgroups(7)) and the mount table to directories. Pure. */
import { unescapeOctal } from '../mounts/mountinfo.ts';

/** One mounted hierarchy. */
export interface CgroupMount {
  /** Which of its cgroups is seen at `point`; "/" unless it is bind-mounted or seen from another cgroup namespace. */
  root: string;
  point: string;
  unified: boolean;
  /** Super options; on v1 the controllers and "name=systemd" are among them. */
  options: readonly string[];
}

export type CgroupPlace =
  /** Directory of each controller; several may share one ("cpu" and "cpuacct"). */
  | { version: 'v1'; dirs: ReadonlyMap<string, string> }
  /** `mount` is where the hierarchy begins. */
  | { version: 'v2'; dir: string; mount: string };

const UNIFIED_POINT = '/sys/fs/cgroup';

/** Source: proc_pid_mountinfo(5); a dash separates the optional fields from type, source and super options. */
export function cgroupMounts(mountinfo: string): CgroupMount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [front = '', back = ''] = line.split(' - ');
    const [type, , options = ''] = back.split(' ');
    if (type !== 'cgroup' && type !== 'cgroup2') return [];
    const [, , , root = '', point = ''] = front.split(' ');
    return {
      root: unescapeOctal(root),
      point: unescapeOctal(point),
      unified: type === 'cgroup2',
      options: options.split(','),
    };
  });
}

/**
 * Where a container lies. `procCgroup` is read from one of its processes, `cgroupsPath` is the OCI spec's: a restored process may
 * be in a cgroup that the container made below its own, and the container's is the one that counts. Undefined: in no cgroup
 * of its own.
 *
 * Unified (v2) only where the hierarchy is the one at /sys/fs/cgroup; in the hybrid set-up the one at
 * /sys/fs/cgroup/unified has no controllers.
 */
export function placeOf(
  procCgroup: string,
  mounts: readonly CgroupMount[],
  cgroupsPath: string | undefined,
): CgroupPlace | undefined {
  const memberships = procCgroup.split('\n').flatMap((line) => {
    const [, hierarchy, controllers = '', path = ''] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
    return hierarchy === undefined || path.endsWith(' (deleted)')
      ? []
      : { unified: hierarchy === '0', controllers: controllers.split(','), path: ownPart(path, cgroupsPath) };
  });
  const unified = mounts.find((mount) => mount.unified && mount.point === UNIFIED_POINT);
  if (unified) {
    const path = memberships.find((membership) => membership.unified)?.path;
    const dir = path === undefined ? undefined : below(unified, path);
    return dir === undefined ? undefined : { version: 'v2', dir, mount: unified.point };
  }
  const dirs = new Map<string, string>();
  for (const { controllers, path } of memberships.filter((membership) => !membership.unified)) {
    for (const controller of controllers) {
      const candidates = mounts.filter((mount) => !mount.unified && mount.options.includes(controller));
      const dir = candidates.map((mount) => below(mount, path)).find((found) => found !== undefined);
      if (dir !== undefined) dirs.set(controller, dir);
    }
  }
  return dirs.size > 0 ? { version: 'v1', dirs } : undefined;
}

/**
 * Directory of a cgroup. Undefined outside of what is mounted, and for the root: a v1 kernel says "/" of a process that is
 * exiting, and the whole machine is never a container.
 */
function below({ root, point }: CgroupMount, path: string): string | undefined {
  if (root === '/') return path === '/' ? undefined : point + path;
  return path.startsWith(`${root}/`) ? point + path.slice(root.length) : undefined;
}

/** The path up to the container's own cgroup. */
function ownPart(path: string, cgroupsPath: string | undefined): string {
  const own = ownSuffix(cgroupsPath);
  if (own === undefined) return path;
  const at = `${path}/`.indexOf(`${own}/`);
  return at < 0 ? path : path.slice(0, at + own.length);
}

/** What a container's path ends with; systemd's form is "slice:prefix:name". */
function ownSuffix(cgroupsPath: string | undefined): string | undefined {
  if (!cgroupsPath) return undefined;
  const parts = cgroupsPath.split(':');
  if (parts.length === 3) {
    const [, prefix, name = ''] = parts;
    return name.endsWith('.slice') ? undefined : `/${prefix ? `${prefix}-` : ''}${name}.scope`;
  }
  const path = `/${cgroupsPath.split('/').filter(Boolean).join('/')}`;
  return path === '/' ? undefined : path;
}
