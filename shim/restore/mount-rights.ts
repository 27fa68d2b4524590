/**
 * Whether a restore mounts what the pod has, and nothing else: CRIU mounts with root's rights whatever the images say, and
 * takes the flags of each mount from them. Pure.
 */
import { MountFlag, type RestoredMount } from '../../checkpoint/criu/restored-mounts.ts';
import type { OciMount } from '../task/oci-spec.ts';
import { type Grants, hasCapability } from './grants.ts';

/** Key and content of the mounts that runc hides files behind. */
const NULL_DEVICE = '/dev/null';
const CONSOLE = '/dev/console';
const FLAGS = [
  ['ro', MountFlag.readOnly],
  ['nosuid', MountFlag.noSuid],
  ['nodev', MountFlag.noDev],
  ['noexec', MountFlag.noExec],
] as const;

export function excessMounts(mounts: readonly RestoredMount[], grants: Grants): string[] {
  const granted = new Map(
    (grants.spec.mounts ?? []).map((mount) => [grants.resolve(mount.destination), mount]),
  );
  // May mount what it likes, and unmount what hides something.
  const isFree = hasCapability(grants.spec, 'SYS_ADMIN');
  return [
    ...mounts.flatMap((mount) => excessOf(mount, parentOf(mount, mounts), granted, grants, isFree)),
    ...(isFree ? [] : [...overlaps(mounts), ...bared(mounts, grants)]),
  ];
}

function excessOf(
  mount: RestoredMount,
  parent: RestoredMount | undefined,
  granted: ReadonlyMap<string, OciMount>,
  grants: Grants,
  isFree: boolean,
): string[] {
  const { mountpoint, externalKey, fstype, withPlugin } = mount;
  const at = `the mount at ${mountpoint}`;
  if (withPlugin) return [`${at} needs a plug-in of CRIU`];
  const asked = granted.get(externalKey ?? mountpoint);
  if (externalKey !== undefined) {
    if (externalKey === NULL_DEVICE) return [];
    if (asked && isBind(asked)) return isFree ? [] : missingFlags(mount, asked);
    if (grants.spec.linux?.devices?.some(({ path }) => path === externalKey)) return [];
    const cgroups = cgroupsOf(externalKey, granted);
    if (cgroups) return isFree ? [] : missingFlags(mount, cgroups);
    return [`${at} is asked for as "${externalKey}", which the pod does not have`];
  }
  if (fstype === undefined) return [`${at} is of a kind that no pod has`];
  if (mountpoint === '/') {
    const isWritable = grants.spec.root?.readonly === true && (mount.flags & MountFlag.readOnly) === 0;
    return isWritable && !isFree ? ['the root file system is writable, the pod has it read-only'] : [];
  }
  // From the options of such a mount CRIU would take any directory of the node.
  if (fstype === 'overlay') return [`${at} is an overlay, which no pod has`];
  if (isFree || isHiding(mount, parent, grants)) return [];
  if (asked && !isBind(asked) && asked.type === fstype && mount.root === '/')
    return missingFlags(mount, asked);
  const cgroups = cgroupsOf(mountpoint, granted);
  // Below cgroup v1 this holds links and mount points alone, and runc leaves it writable.
  if (cgroups && fstype === 'tmpfs') return [];
  if (cgroups && (fstype === 'cgroup' || fstype === 'cgroup2')) return missingFlags(mount, cgroups);
  if (mountpoint === CONSOLE && fstype === 'devpts' && grants.spec.process?.terminal) return [];
  return [`${at} (${fstype}) is not one of the pod's`];
}

function isBind({ type, options = [] }: OciMount): boolean {
  return type === 'bind' || options.includes('bind') || options.includes('rbind');
}

/** runc mounts each hierarchy of cgroup v1 below the one mount of the spec. */
function cgroupsOf(path: string, granted: ReadonlyMap<string, OciMount>): OciMount | undefined {
  const found = [...granted].find(
    ([destination, { type }]) => type === 'cgroup' && isWithin(path, destination),
  );
  return found?.[1];
}

function isWithin(path: string, dir: string): boolean {
  return path === dir || path.startsWith(dir === '/' ? '/' : `${dir}/`);
}

/** What runc puts over masked directories, and over paths that are to be read-only. */
function isHiding(mount: RestoredMount, parent: RestoredMount | undefined, { spec }: Grants): boolean {
  const { maskedPaths = [], readonlyPaths = [] } = spec.linux ?? {};
  if ((mount.flags & MountFlag.readOnly) === 0) return false;
  if (maskedPaths.includes(mount.mountpoint)) return mount.fstype === 'tmpfs';
  if (!readonlyPaths.includes(mount.mountpoint) || !parent) return false;
  const below = mount.mountpoint.slice(parent.mountpoint === '/' ? 0 : parent.mountpoint.length);
  return mount.fstype === parent.fstype && mount.root === below;
}

function missingFlags({ mountpoint, flags }: RestoredMount, { options = [] }: OciMount): string[] {
  const lacking = FLAGS.filter(([option, flag]) => options.includes(option) && (flags & flag) === 0);
  if (lacking.length === 0) return [];
  return [`the mount at ${mountpoint} is not ${lacking.map(([option]) => option).join(', ')}, the pod's is`];
}

function parentOf(
  { mountpoint }: RestoredMount,
  mounts: readonly RestoredMount[],
): RestoredMount | undefined {
  let nearest: RestoredMount | undefined;
  for (const other of mounts)
    if (other.mountpoint !== mountpoint && isWithin(mountpoint, other.mountpoint))
      if (!nearest || other.mountpoint.length > nearest.mountpoint.length) nearest = other;
  return nearest;
}

/** One mount above another would show again what that one hides; so would one that lies on another one's parent. */
function overlaps(mounts: readonly RestoredMount[]): string[] {
  const seen = new Set<string>();
  return mounts.flatMap((mount) => {
    const { mountpoint, parentId } = mount;
    if (seen.has(mountpoint)) return [`more than one mount is at ${mountpoint}`];
    seen.add(mountpoint);
    const parent = parentOf(mount, mounts);
    return parent && parent.id !== parentId
      ? [`the mount at ${mountpoint} does not lie on the one at ${parent.mountpoint}`]
      : [];
  });
}

/** Paths that the pod hides and the images do not. */
function bared(mounts: readonly RestoredMount[], grants: Grants): string[] {
  const { maskedPaths = [], readonlyPaths = [] } = grants.spec.linux ?? {};
  const at = new Map(mounts.map((mount) => [mount.mountpoint, mount]));
  const isHidden = (path: string) => {
    const mount = at.get(path);
    return (
      mount !== undefined &&
      (mount.externalKey === NULL_DEVICE || isHiding(mount, parentOf(mount, mounts), grants))
    );
  };
  const open = (paths: readonly string[]) =>
    paths.filter((path) => grants.hiddenPaths.has(path) && !isHidden(path));
  return [
    ...open(maskedPaths).map((path) => `nothing hides ${path}, which the pod hides`),
    ...open(readonlyPaths).map((path) => `${path} is writable, the pod has it read-only`),
  ];
}
