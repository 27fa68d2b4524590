/**
 * Which restores failed on this node and are not tried again: one file for a checkpoint and a kind of container. Written and
 * read by shims; `thaw retry` removes them.
 */
import { createHash } from 'node:crypto';
import * as z from 'zod/mini';
import { listState, pruneState, readState, removeState, writeState } from './files.ts';

export const FAILED_RESTORES_DIR = '/var/lib/thaw/failed';
const MAX_FAILURES = 500;

/** What a restore depends on besides the checkpoint: one that differs now is worth another try. */
const nodeSchema = z.object({
  thaw: z.string(),
  kernel: z.string(),
  criu: z.string(),
  runc: z.string(),
  /** Of NVIDIA; empty where there is none. */
  driver: z.string(),
  /** A restore may have failed because the machine was going down. */
  boot: z.string(),
});
export type NodeFacts = z.infer<typeof nodeSchema>;

const failureSchema = z.object({
  /** Digest of the index. */
  checkpoint: z.string(),
  /** Digest of what the container was allowed and given: another kind of container may be restored from it. */
  shape: z.string(),
  /** RFC 3339. */
  at: z.string(),
  reason: z.string(),
  node: nodeSchema,
});
export type FailedRestore = z.infer<typeof failureSchema>;

export class FailedRestores {
  readonly #dir: string;
  readonly #keep: number;

  constructor(dir = FAILED_RESTORES_DIR, keep = MAX_FAILURES) {
    this.#dir = dir;
    this.#keep = keep;
  }

  /** Undefined unless it failed on a node that was as `node` is. */
  find(checkpoint: string, shape: string, node: NodeFacts): FailedRestore | undefined {
    const failure = this.#read(nameOf(checkpoint, shape));
    if (!failure || failure.checkpoint !== checkpoint || failure.shape !== shape) return undefined;
    const keys = Object.keys(node) as (keyof NodeFacts)[];
    return keys.every((key) => failure.node[key] === node[key]) ? failure : undefined;
  }

  add(failure: FailedRestore): void {
    const name = nameOf(failure.checkpoint, failure.shape);
    writeState(this.#dir, name, failure);
    // What cannot be read goes first.
    pruneState(this.#dir, this.#keep, (file) => this.#read(file)?.at ?? '');
  }

  list(): FailedRestore[] {
    return listState(this.#dir).flatMap((name) => this.#read(name) ?? []);
  }

  remove({ checkpoint, shape }: Pick<FailedRestore, 'checkpoint' | 'shape'>): void {
    removeState(this.#dir, nameOf(checkpoint, shape));
  }

  #read(name: string): FailedRestore | undefined {
    const parsed = failureSchema.safeParse(readState(this.#dir, name));
    return parsed.success ? parsed.data : undefined;
  }
}

function nameOf(checkpoint: string, shape: string): string {
  return `${createHash('sha256').update(`${checkpoint} ${shape}`).digest('hex')}.json`;
}
