/** Serves a pretended checkpoint with the addon's page server. For tests only. */
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { native } from '../index.ts';
import { exitOf } from '../testing.ts';
import { bitsOf } from './bits.ts';
import type { PageServer, PageServerCounts, PageServerEvent } from './calls.ts';
import { type Checkpoint, PAGE_BYTES } from './fake-criu.test-helper.ts';

export const LAUNCHER = join(import.meta.dirname, '../../build/containerd-shim-thaw-v2');
const CHUNK_PAGES = 64;

export interface ServedFile {
  path: string;
  firstOrdinal: number;
  chunks: BigUint64Array;
}

export interface Served {
  files: ServedFile[];
  processes: { pid: number; file: number; pieces: BigUint64Array }[];
  chunks: number;
}

/** Chunks of 64 pages; those that are all zero are left out, as in a packed checkpoint. */
export function servedOf(checkpoint: Checkpoint): Served {
  const served: Served = { files: [], processes: [], chunks: 0 };
  for (const process of checkpoint.layout.processes) {
    if ('zombie' in process) continue;
    const path = checkpoint.pagesFile(process.pid);
    const bytes = readFileSync(path);
    const chunks: bigint[] = [];
    const firstOrdinal = served.chunks;
    for (let page = 0; page < bytes.length / PAGE_BYTES; page += CHUNK_PAGES) {
      const pages = Math.min(CHUNK_PAGES, bytes.length / PAGE_BYTES - page);
      if (bytes.subarray(page * PAGE_BYTES, (page + pages) * PAGE_BYTES).every((byte) => byte === 0))
        continue;
      chunks.push(BigInt(page), BigInt(pages));
      served.chunks++;
    }
    served.processes.push({
      pid: process.pid,
      file: served.files.length,
      pieces: BigUint64Array.from(
        process.runs
          .filter(({ eager }) => !eager)
          .flatMap(({ address, pages, first }) => [address, BigInt(first), BigInt(pages)]),
      ),
    });
    served.files.push({ path, firstOrdinal, chunks: BigUint64Array.from(chunks) });
  }
  return served;
}

export interface ServeOptions {
  /** Ordinals that are not here at first; they come when they are wanted, and one by one otherwise, in this order. */
  absent?: readonly number[];
  arriveMs?: number;
  drain?: boolean;
  order?: readonly number[];
  guard?: boolean;
}

export interface Serving {
  server: PageServer;
  events: PageServerEvent[];
  ended: Promise<void>;
  counts(): PageServerCounts;
  /** Pids of the guards that were started. */
  guards: number[];
  startGuard(): Promise<void>;
}

/** Listens on `lazy-pages.socket` in the checkpoint's folder. Ends with its processes. */
export async function serve(
  checkpoint: Checkpoint,
  served: Served,
  options: ServeOptions = {},
): Promise<Serving> {
  const { absent = [], arriveMs = 1, drain = true, order = [], guard = true } = options;
  const listener = native.consoleListen(join(checkpoint.folder, 'lazy-pages.socket'));
  const files = served.files.map(({ path, ...rest }) => ({
    ...rest,
    fd: openSync(path, 'r'),
    size: BigInt(statSync(path).size),
  }));
  const events: PageServerEvent[] = [];
  const ended = Promise.withResolvers<void>();
  let guarded = Promise.withResolvers<void>();
  const guards: number[] = [];
  const missing = new Set(absent);
  const arrive = (ordinals: Iterable<number>) => {
    const came = [...ordinals];
    for (const ordinal of came) missing.delete(ordinal);
    native.pageServerPresent(server, bitsOf(came, served.chunks));
  };
  const server = native.pageServerStart(
    listener,
    files,
    served.processes,
    served.chunks,
    Uint32Array.from(order),
    [],
    2,
    drain,
    (event) => {
      events.push(event);
      if (event.kind === 'ended') ended.resolve();
      if (event.kind === 'guard-ready') guarded.resolve();
      if (event.kind === 'wanted') setTimeout(() => arrive(event.ordinals), arriveMs);
    },
  );
  for (const fd of [listener, ...files.map(({ fd }) => fd)]) closeSync(fd);
  const startGuard = async () => {
    guarded = Promise.withResolvers<void>();
    const [ours, theirs] = native.messageSockets();
    const { pid, pidfd } = native.spawn(LAUNCHER, ['guard'], [], '/', [-1, -1, -1, theirs], 0);
    void exitOf(pidfd);
    guards.push(pid);
    closeSync(theirs);
    native.pageServerGuard(server, ours);
    await guarded.promise;
  };
  if (guard) await startGuard();
  arrive(
    Array.from({ length: served.chunks }, (_, ordinal) => ordinal).filter((ordinal) => !missing.has(ordinal)),
  );
  const timer = setInterval(() => {
    const [next] = missing;
    if (next === undefined) clearInterval(timer);
    else arrive([next]);
  }, arriveMs);
  onTestFinished(async () => {
    clearInterval(timer);
    native.pageServerFinish(server);
    await ended.promise;
  });
  return {
    server,
    events,
    ended: ended.promise,
    counts: () => native.pageServerStats(server),
    guards,
    startGuard,
  };
}
