/** One attempt to bring what is missing of a checkpoint to this node. */
import type { ChunkIndex } from '../../checkpoint/index-format.ts';
import type { SnapshotError } from '../error.ts';
import { Arrivals } from './arrivals.ts';
import type { BlobSource } from './blob-source.ts';
import type { Calm } from './calm.ts';
import { chunkAt } from './chunk-lookup.ts';
import type { Demand } from './demand.ts';
import { explain, isFinal } from './fetch-failure.ts';
import type { GivenUp } from './given-up.ts';
import type { Limiter } from './limiter.ts';
import type { PlannedRange } from './plan.ts';
import type { Presence } from './presence.ts';
import { jobOf } from './range-job.ts';
import type { Rank } from './rank.ts';
import { TransferQueue } from './transfer-queue.ts';
import type { Transfers } from './transfers.ts';

export interface DownloadOptions {
  index: ChunkIndex;
  source: BlobSource;
  /** Of the files. */
  directory: string;
  transfers: Transfers;
  presence: Presence;
  /** Empty; filled with what could not be had although the rest could. */
  givenUp: GivenUp;
  demand: Demand;
  /** Bounds the streaming transfers of all downloads together. */
  limiter: Limiter;
  /** Bounds those for who waits and of a lead, apart: they are short, and never stand behind a long range. */
  soonLimiter: Limiter;
  /** Knows of all transfers but those in the background. */
  calm: Calm;
  /** What its order names is a lead, which comes beside whatever else streams; the rest comes when it is calm. */
  restInBackground: boolean;
  /** Streaming transfers of this download at a time. */
  parallel: number;
  /** Monotonic milliseconds. */
  clock: () => number;
  signal: AbortSignal;
  /** How many came, and how many of them from a mirror. */
  onBytes: (bytes: number, mirrored: number) => void;
}

/** Transfers of one download, beside the streaming ones, for those who wait. */
const DEMAND_TRANSFERS = 4;
/** How often wanted chunks that long ranges are bringing are looked at, and how far away they may still be then. */
const OVERDUE_MS = 100;
const OVERDUE_LEFT_MS = 300;
/** Chunks that were waited for until the rest of a lazy layer comes whatever else does: so many tell of somebody who reads all of it. */
const MANY_WANTED = 64;

/**
 * Resolves when nothing is missing. A chunk or layer that cannot be had does not stop the others; what fails for all of
 * them (network, disk) breaks the attempt off. What was stored stays either way.
 */
export async function download(options: DownloadOptions): Promise<void> {
  const { index, presence, givenUp, demand, parallel, limiter, soonLimiter, calm, restInBackground, signal } =
    options;
  const queue = new TransferQueue(
    index,
    (ordinal) => !presence.has(ordinal) && givenUp.errorOf(ordinal) === undefined,
    { leadAlone: restInBackground },
  );
  const failed = new AbortController();
  const stop = AbortSignal.any([signal, failed.signal]);
  const arrivals = new Arrivals(index, options.clock);

  /** What somebody waits for goes first, whoever has a slot. */
  const take = (rank: Rank): { range: PlannedRange; rank: Rank } | undefined => {
    const wanted = queue.takeDemand();
    if (wanted) return { range: wanted, rank: 'wanted' };
    if (rank === 'wanted') return undefined;
    const range = rank === 'lead' ? queue.takeLead() : queue.takeStream();
    return range && { range, rank };
  };
  let wantedChunks = 0;
  /** False if there is nothing to take. */
  const transfer = async (rank: Rank): Promise<boolean> => {
    const taken = stop.aborted ? undefined : take(rank);
    if (!taken) return false;
    const { range } = taken;
    if (taken.rank !== 'background') calm.begin();
    if (taken.rank === 'wanted') wantedChunks += range.ordinals.length;
    arrivals.begin(range);
    try {
      await fetchInto(range, taken.rank, options, arrivals, stop);
      return true;
    } finally {
      if (taken.rank !== 'background') calm.end();
      arrivals.end(range);
      queue.release(range);
    }
  };
  const work = async (slots: Limiter, rank: Rank, piece = () => transfer(rank)): Promise<void> => {
    try {
      await slots.each(rank, piece);
    } catch (error) {
      failed.abort(error);
    }
  };

  /** One piece after the other, each when it is calm: who has got its last bytes begins to work with them. */
  const workInCalm = async (): Promise<void> => {
    let more = true;
    while (more) {
      await calm.wait(() => wantedChunks > MANY_WANTED, stop);
      await work(limiter, 'background', async () => {
        more = await transfer('background');
        return false;
      });
      more &&= !stop.aborted;
    }
  };

  const urgent = new Set<Promise<void>>();
  const serve = (): void => {
    while (urgent.size < DEMAND_TRANSFERS && queue.hasDemand && !stop.aborted) {
      const serving = work(soonLimiter, 'wanted').then(() => {
        urgent.delete(serving);
        serve();
      });
      urgent.add(serving);
    }
  };
  const timers = new Set<NodeJS.Timeout>();
  /** What ranges under way are bringing is fetched by itself if they stall, or are too slow for somebody who waits. */
  const watch = (coming: readonly number[]): void => {
    if (coming.length === 0) return;
    const timer = setTimeout(() => {
      timers.delete(timer);
      const wanted = coming.filter((ordinal) => demand.has(ordinal));
      const near = (ordinal: number) => arrivals.millisecondsTo(ordinal) <= OVERDUE_LEFT_MS;
      queue.want(
        wanted.filter((ordinal) => !near(ordinal)),
        { again: true },
      );
      serve();
      watch(wanted.filter(near));
    }, OVERDUE_MS);
    timers.add(timer);
  };
  const want = (ordinals: readonly number[]): void => {
    const coming = ordinals.filter((ordinal) => queue.isUnderWay(ordinal));
    queue.want(ordinals);
    serve();
    watch(coming);
  };

  demand.onWanted = want;
  want(demand.ordinals);
  const streamAll = async (): Promise<void> => {
    if (!restInBackground) return work(limiter, 'stream');
    await work(soonLimiter, 'lead');
    await workInCalm();
  };
  const streams = Array.from({ length: parallel }, streamAll);
  try {
    await Promise.all(streams);
    while (urgent.size > 0) await Promise.all(urgent);
  } finally {
    demand.onWanted = () => {};
    for (const timer of timers) clearTimeout(timer);
  }
  signal.throwIfAborted();
  // The first failure; those of the others are its consequence.
  if (failed.signal.aborted) throw failed.signal.reason;
  if (givenUp.first) throw givenUp.first;
}

async function fetchInto(
  range: PlannedRange,
  rank: Rank,
  options: DownloadOptions,
  arrivals: Arrivals,
  signal: AbortSignal,
): Promise<void> {
  const { index, source, directory, transfers, presence, givenUp, demand, onBytes } = options;
  const events = {
    onBytes: (bytes: number, mirrored = 0) => {
      arrivals.received(range, bytes);
      onBytes(bytes, mirrored);
    },
    onStored: (ordinal: number) => presence.add(ordinal, chunkAt(index, ordinal).chunk.storedLength),
    onCorrupt: (ordinal: number, error: SnapshotError) => {
      givenUp.chunk(ordinal, error);
      demand.failed(ordinal, error);
    },
    onUnreadable: (cause: unknown) => {
      const error = explain(cause, source);
      givenUp.layer(range.layer, error);
      if (!isFinal(error)) return;
      for (const ordinal of demand.ordinals)
        if (givenUp.errorOf(ordinal) !== undefined) demand.failed(ordinal, error);
    },
  };
  await transfers.run(jobOf(index, range, rank), source, directory, events, signal);
}
