/**
 * What is compared for the rootfs diff. A container from an ordinary image: its snapshot with the image below. One from
 * a checkpoint image: checkpoint layers are left out of both sides, and the lower side ends below the old diff, so
 * that images do not grow from generation to generation. Pure.
 */
import { Code } from '../../proto/status.ts';
import type { Mount } from '../containerd/index.ts';
import { CliError } from '../error.ts';

export interface LayerCounts {
  checkpoint: number;
  base: number;
  diff: 0 | 1;
}

const LOWER = 'lowerdir=';

/** Topmost first; undefined where the mounts are not one overlay. */
export function lowerDirs(mounts: readonly Mount[]): string[] | undefined {
  const [root, ...rest] = mounts;
  if (root === undefined || rest.length > 0 || root.type !== 'overlay') return undefined;
  const lower = root.options.find((option) => option.startsWith(LOWER));
  return lower === undefined ? undefined : splitLower(lower.slice(LOWER.length));
}

/** overlayfs splits at colons that no backslash precedes. */
function splitLower(value: string): string[] {
  return value.split(/(?<!\\):/).filter((dir) => dir !== '');
}

/**
 * How many lower directories a process's root has, from /proc/PID/mountinfo: after a cold start fewer than containerd
 * asked for. Source: proc(5); overlayfs writes commas and spaces in octal, and one lowerdir+ for each where the mount
 * was made with fsconfig.
 */
export function lowerCountOf(mountinfo: string): number | undefined {
  let count: number | undefined;
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ');
    if (before?.split(' ')[4] !== '/' || after === undefined) continue;
    const [type, , options] = after.split(' ');
    count = type === 'overlay' && options !== undefined ? countLowers(options.split(',')) : undefined;
  }
  return count;
}

function countLowers(options: readonly string[]): number {
  const single = options.filter((option) => option.startsWith('lowerdir+='));
  if (single.length > 0) return single.length;
  const joined = options.find((option) => option.startsWith(LOWER));
  return joined === undefined ? 0 : splitLower(joined.slice(LOWER.length).replaceAll('\\134:', '\\:')).length;
}

/** Whether the old diff lies below the container: not after a cold start, which uses the base alone. */
export function runsOnDiff(counts: LayerCounts, running: number | undefined): boolean {
  if (counts.diff === 0) return false;
  // A shim that starts cold leaves the checkpoint layers out; containerd's own mount would have them.
  if (running === counts.base + 1 || running === counts.checkpoint + counts.base + 1) return true;
  if (running === counts.base) return false;
  throw new CliError(
    Code.failedPrecondition,
    `Cannot tell which layers the container runs on: its root has ${running ?? 'no'} lower directories where the image has ${counts.base} base layers; start it from its image again`,
  );
}

/** The same mounts without the `lowest` bottom layers and the `topmost` lower directories. */
export function trimLowers(mounts: readonly Mount[], lowest: number, topmost: number): Mount[] {
  if (lowest === 0 && topmost === 0) return [...mounts];
  const [root] = mounts;
  const all = lowerDirs(mounts);
  if (root === undefined || all === undefined)
    throw new CliError(
      Code.failedPrecondition,
      'Cannot compare the root file system: its snapshotter does not use overlay mounts; use the thaw snapshotter',
    );
  const kept = all.slice(topmost, all.length - lowest);
  const [only, ...others] = kept;
  if (only === undefined)
    throw new CliError(Code.failedPrecondition, 'Cannot compare the root file system: it has no base layers');
  const rest = root.options.filter((option) => !option.startsWith(LOWER));
  const writable = rest.some((option) => option.startsWith('upperdir='));
  // An overlay needs an upper directory or two lower ones.
  if (!writable && others.length === 0)
    return [{ type: 'bind', source: only, target: '', options: ['ro', 'rbind'] }];
  return [{ ...root, options: [...rest, `${LOWER}${kept.join(':')}`] }];
}
