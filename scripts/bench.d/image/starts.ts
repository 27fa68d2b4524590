/** From PullImage on a node that has nothing of the image, registry behind 1 Gbit/s, to the first answer or the last byte. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Code } from '../../../proto/status.ts';
import { run } from '../../../test/lib/index.ts';
import type { Side } from '../alternate.ts';
import { type ColdBed, handlers, sentBytes } from '../coldnode/bed.ts';
import { CHECKPOINT_DIR } from '../coldnode/images.ts';
import { ColdPod } from '../coldnode/pod.ts';
import { parseSentBytes } from '../coldnode/throttle.ts';
import { BenchError } from '../error.ts';
import { Bundle, mountRootfs } from '../restore/runc.ts';
import { firstAnswer } from './answer.ts';
import type { Published } from './publish.ts';
import { essence } from './recipes.ts';

/** Milliseconds from PullImage on, and bytes that the registry sent. */
export interface Start {
  pulled: number;
  answered: number;
  sentByAnswer: number;
  sent: number;
}

export interface ReadAll {
  pulled: number;
  /** Every byte of every file was read. */
  read: number;
  /** Of all files. */
  bytes: number;
}

const READ_MS = 600_000;
const sent = () => parseSentBytes(readFileSync('/proc/net/dev', 'utf8'));

/**
 * `restore`: of the checkpoint; the peer pulls, unpacks, and restores with runc. `order`: cold, and the peer is the lazy image
 * without a recorded order. `stargz`: cold, and the peer is the image as eStargz on stargz-snapshotter.
 */
export type StartKind = 'cold' | 'order' | 'restore' | 'stargz';

function handlerOf(side: Side, kind: StartKind): string {
  if (side === 'ours') return handlers.thaw;
  switch (kind) {
    case 'order':
      return handlers.thaw;
    case 'stargz':
      return handlers.stargz;
    case 'cold':
    case 'restore':
      return handlers.runc;
  }
}

export async function startOnce(
  cold: ColdBed,
  published: Published,
  side: Side,
  kind: StartKind,
): Promise<Start> {
  const { command, path } = published.recipe;
  const { bed } = cold;
  await cold.empty();
  const handler = handlerOf(side, kind);
  const pod = await ColdPod.start(bed.node, handler, { cold: kind !== 'restore' });
  let bundle: Bundle | undefined;
  try {
    const { result, requests } = await cold.behindLink(1, async () => {
      const before = sent();
      const began = performance.now();
      const image = imageOf(published, side, kind);
      const imageRef = await pod.pull(image, handler);
      const pulled = performance.now() - began;
      const containerId = await pod.create({ image, imageRef, command });
      if (side === 'peer' && kind === 'restore') {
        bundle = await Bundle.make(bed, containerId);
        await bundle.restore(join(bundle.rootfs, CHECKPOINT_DIR), false);
      } else await bed.node.cri.startContainer(containerId);
      const answer = await firstAnswer(pod.ip, path);
      const answered = performance.now() - began;
      const sentByAnswer = sent() - before;
      if (essence(answer) !== published.answer)
        throw new BenchError(Code.dataLoss, `The ${published.recipe.name} server answered something else`);
      return { pulled, answered, sentByAnswer };
    });
    return { ...result, sent: sentBytes(requests) };
  } finally {
    await bundle?.kill();
    await bundle?.remove();
    await pod.remove();
  }
}

/** Reads every file of the image once, as soon as it can be mounted. */
export async function readAll(cold: ColdBed, published: Published, side: Side): Promise<ReadAll> {
  await cold.empty();
  const handler = handlerOf(side, 'cold');
  const pod = await ColdPod.start(cold.bed.node, handler, { cold: true });
  try {
    const { result } = await cold.behindLink(1, async () => {
      const began = performance.now();
      const image = imageOf(published, side, 'cold');
      const imageRef = await pod.pull(image, handler);
      const pulled = performance.now() - began;
      const container = { image, imageRef, command: published.recipe.command };
      return await withRootfs(cold, pod, container, async (rootfs) => {
        const bytes = await readFiles(rootfs);
        return { pulled, read: performance.now() - began, bytes };
      });
    });
    return result;
  } finally {
    await pod.remove();
  }
}

/** The root file system of a container that does not run. */
export async function withRootfs<T>(
  cold: ColdBed,
  pod: ColdPod,
  container: Parameters<ColdPod['create']>[0],
  work: (rootfs: string) => Promise<T>,
): Promise<T> {
  const containerId = await pod.create(container);
  const rootfs = join(cold.bed.dir, `rootfs-${containerId.slice(0, 12)}`);
  mkdirSync(rootfs);
  await mountRootfs(cold.bed, containerId, rootfs);
  try {
    return await work(rootfs);
  } finally {
    await run('umount', [rootfs]);
    rmSync(rootfs, { recursive: true });
  }
}

/** Through a pipe: cat leaves out the reading where it writes to /dev/null. */
async function readFiles(rootfs: string): Promise<number> {
  const command = 'find "$0" -xdev -type f -exec cat {} + | wc -c';
  const { stdout } = await run('sh', ['-c', command, rootfs], { timeoutMs: READ_MS });
  return Number(stdout);
}

function imageOf(
  { plain, lazy, unordered, warm, files, estargz }: Published,
  side: Side,
  kind: StartKind,
): string {
  const of = {
    cold: [lazy, plain],
    order: [lazy, unordered],
    restore: [warm, files],
    stargz: [lazy, estargz],
  } as const;
  const [ours, peer] = of[kind];
  return side === 'ours' ? ours : peer;
}
