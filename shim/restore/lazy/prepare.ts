/** Brings what CRIU reads by itself to this node, and plans the rest: it arrives while the processes already run. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { writePagemap } from '../../../checkpoint/criu/pagemap.ts';
import { digestOf } from '../../../checkpoint/digest.ts';
import { type CheckpointIndex, decodeIndex } from '../../../checkpoint/index-format.ts';
import { Code, describeError } from '../../../proto/status.ts';
import type { Log } from '../../log.ts';
import type { Spawner } from '../../process/spawn.ts';
import type { Daemon, Located } from '../daemon.ts';
import { RestoreError } from '../error.ts';
import { LazyMemory, type LazyMemoryDeps } from './lazy-memory.ts';
import { imageOrdinals } from './memory-plan.ts';
import { readMemoryPlan } from './read-images.ts';

export interface PreparedMemory {
  /** Images that CRIU must see instead of the saved ones, by name. */
  readonly images: ReadonlyMap<string, Uint8Array>;
  /** Listens in CRIU's work directory. */
  start(workDir: string, cgroups: readonly string[], spawner: Spawner, log: Log): Promise<LazyMemory>;
}

export type PrepareDeps = Pick<LazyMemoryDeps, 'calls' | 'guardProgram'> & {
  daemon: Pick<Daemon, 'connect'>;
};

/** Source: the kernel's fs/userfaultfd.c, whose setting is there where the system call is. */
export function hasUserfaultfd(): boolean {
  return existsSync('/proc/sys/vm/unprivileged_userfaultfd');
}

/** Undefined if nothing of this checkpoint can come later, here: then all of it is needed before. */
export async function prepareMemory(
  located: Located,
  deps: PrepareDeps,
  deadlineMs: number,
  relocate: () => Promise<unknown>,
  log: Log,
): Promise<PreparedMemory | undefined> {
  if (!hasUserfaultfd()) return undefined;
  const { id, imagesDir, indexFile } = located;
  const until = performance.now() + deadlineMs;
  const left = () => Math.max(1, Math.round(until - performance.now()));
  const connecting = deps.daemon.connect();
  connecting.catch(() => {});
  const index = await readIndex(indexFile, id).catch(async (cause: unknown) => {
    await connecting.then(
      (connection) => connection.close(),
      () => {},
    );
    throw cause;
  });
  const daemon = await connecting;
  try {
    await daemon.want(id, imageOrdinals(index), left());
    const plan = await readMemoryPlan(imagesDir, index).catch((error: unknown) => {
      // CRIU may still make something of it: it is asked, with all memory here.
      log.warn({ reason: describeError(error).message }, 'cannot plan memory; all of it is waited for');
      return undefined;
    });
    if (!plan || plan.lazyBytes === 0n) return undefined;
    await daemon.want(id, plan.eager, left());
    return {
      images: new Map([...plan.pagemaps].map(([name, pagemap]) => [name, writePagemap(pagemap)])),
      start: (workDir, cgroups, spawner, log) =>
        LazyMemory.start(
          workDir,
          { id, imagesDir, index, plan, relocate, cgroups },
          { ...deps, spawner, log },
        ),
    };
  } finally {
    daemon.close();
  }
}

async function readIndex(file: string, digest: string): Promise<CheckpointIndex> {
  const bytes = await readFile(file);
  if (digestOf(bytes) !== digest)
    throw new RestoreError(Code.dataLoss, 'Cannot trust the index of the checkpoint: its digest differs');
  return decodeIndex(bytes);
}
