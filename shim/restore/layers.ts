/**
 * Which layers of a root file system are the checkpoint, the base image and the rootfs diff. Pure; the mounts are those
 * that containerd asks for.
 */
import { Code } from '../../proto/status.ts';
import type { Mount } from '../task/start-plan.ts';
import { RestoreError } from './error.ts';

/** How many layers of each kind checkpoint.json names, bottom to top: checkpoint, base, diff. */
export interface LayerCounts {
  checkpoint: number;
  base: number;
  diff: 0 | 1;
}

export interface Overlay {
  /** Topmost first, as in the option. */
  lowerDirs: string[];
  upperDir: string | undefined;
  workDir: string | undefined;
  /** Every option but lowerdir=, in order. */
  otherOptions: string[];
}

/** The overlay at the root of a container's file system; undefined where it is something else. */
export function overlayOf(rootfs: readonly Mount[]): Overlay | undefined {
  const [root, ...rest] = rootfs;
  if (!root || rest.length > 0 || root.type !== 'overlay') return undefined;
  const lower = root.options.find((option) => option.startsWith('lowerdir='));
  if (!lower) return undefined;
  const optionOf = (name: string) =>
    root.options.find((option) => option.startsWith(name))?.slice(name.length);
  return {
    lowerDirs: splitLower(lower.slice('lowerdir='.length)),
    upperDir: optionOf('upperdir='),
    workDir: optionOf('workdir='),
    otherOptions: root.options.filter((option) => option !== lower),
  };
}

/** overlayfs splits `lowerdir` at colons that no backslash precedes. */
function splitLower(value: string): string[] {
  return value.split(/(?<!\\):/).filter((dir) => dir !== '');
}

export interface SplitLayers {
  /** Lower directories to mount, topmost first. */
  restore: string[];
  /** The base image alone, or all but the checkpoint where layers lie above the diff. */
  cold: string[];
  /** Layers above the diff: the image is not the one the checkpoint was taken on. */
  extra: number;
}

/** Throws where the mount has fewer layers than checkpoint.json names: then nothing of it can be believed. */
export function splitLayers(lowerDirs: readonly string[], counts: LayerCounts): SplitLayers {
  const needed = counts.checkpoint + counts.base + counts.diff;
  if (lowerDirs.length < needed) {
    throw new RestoreError(
      Code.failedPrecondition,
      `The root file system has ${lowerDirs.length} layers, but the checkpoint below it names ${needed}; push the checkpoint image again`,
    );
  }
  const bottomUp = lowerDirs.toReversed();
  const { checkpoint, base, diff } = counts;
  const extra = bottomUp.length - needed;
  const above = bottomUp.slice(checkpoint).toReversed();
  return {
    restore: bottomUp.slice(checkpoint, checkpoint + base + diff).toReversed(),
    cold: extra > 0 ? above : bottomUp.slice(checkpoint, checkpoint + base).toReversed(),
    extra,
  };
}

/** The same mount over other lower directories. */
export function withLowerDirs(rootfs: readonly Mount[], lowerDirs: readonly string[]): Mount[] {
  const overlay = overlayOf(rootfs);
  const root = rootfs[0];
  if (!overlay || !root) throw new RestoreError(Code.internal, 'The root file system is not an overlay');
  return [{ ...root, options: [...overlay.otherOptions, `lowerdir=${lowerDirs.join(':')}`] }];
}
