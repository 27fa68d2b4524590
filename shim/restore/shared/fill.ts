/**
 * Fills shared memory with many threads while CRIU restores, which would read it with one. In place of the page map of such
 * a segment CRIU finds a fifo: the task that restores it has made and mapped it by then, and waits until the page map can be
 * read. The pages are written into that mapping, and only then the fifo says that there are none to read. If this process
 * ends before, the fifo ends without a page map, and CRIU fails: nothing of a segment that is not filled ever runs.
 */
import { closeSync, constants, openSync, renameSync, writeSync } from 'node:fs';
import { open, readdir, readFile, readlink, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { writePagemap } from '../../../checkpoint/criu/pagemap.ts';
import type { Addon } from '../../../native/index.ts';
import { Code, describeError } from '../../../proto/status.ts';
import type { Log } from '../../log.ts';
import { procTree, treeOf } from '../../process/process-tree.ts';
import { RestoreError } from '../error.ts';
import { wholeMemfds } from './mappings.ts';
import type { SharedSegment } from './segments.ts';

export type FillCalls = Pick<Addon, 'makeFifo' | 'watchOpens' | 'watchStop' | 'copyPages'>;

/** More bring no more: the threads wait for the locks of one file (measured with 16 cores: 1.2, 3.7, 4.7, 5.1 GB/s by 1, 4, 8, 16). */
const MOST_THREADS = 8;
/** Each takes one of the four threads that all work on files has. */
const AT_A_TIME = 2;

interface Gate {
  segment: SharedSegment;
  /** Of the fifo: for reading too, so that opening it waits for nobody. Undefined once it is closed. */
  fd: number | undefined;
  isAsked: boolean;
}

/** Where CRIU waits. */
interface Place {
  /** /proc/PID/mem; the caller closes it. */
  memory: number;
  address: bigint;
}

export class SharedFill {
  readonly #gates = new Map<string, Gate>();
  readonly #imagesDir: string;
  readonly #calls: FillCalls;
  readonly #asked: Gate[] = [];
  readonly #workers = new Set<Promise<void>>();
  readonly #began = performance.now();
  #watch: number | undefined;
  #root: number | undefined;
  /** Of the last segment: the next one is often of the same. */
  #lastPid: number | undefined;
  #failure: RestoreError | undefined;
  #bytes = 0n;
  #ms = 0;

  private constructor(imagesDir: string, calls: FillCalls) {
    this.#imagesDir = imagesDir;
    this.#calls = calls;
  }

  /**
   * Puts fifos in the place of the segments' page maps in `target`. `imagesDir` has the pages files, complete. Undefined where
   * it cannot be heard that one is opened (a user has few inotify instances): CRIU then does what it always does.
   */
  static start(
    imagesDir: string,
    target: string,
    segments: readonly SharedSegment[],
    calls: FillCalls,
    log: Log,
  ): SharedFill | undefined {
    const fill = new SharedFill(imagesDir, calls);
    try {
      fill.#watch = calls.watchOpens(target, (error, names) => fill.#opened(error, names));
    } catch (error) {
      log.warn({ reason: describeError(error).message }, 'CRIU fills shared memory, which takes longer');
      return undefined;
    }
    const { O_RDWR, O_NONBLOCK, O_NOFOLLOW } = constants;
    try {
      for (const segment of segments) {
        const path = join(target, segment.image);
        // Under another name, so that nobody hears of this.
        const fresh = `${path}.fifo`;
        calls.makeFifo(fresh);
        // One that a writer has open lets CRIU open it at once, which is what is heard of, and read when there is something.
        const fd = openSync(fresh, O_RDWR | O_NONBLOCK | O_NOFOLLOW);
        fill.#gates.set(segment.image, { segment, fd, isAsked: false });
        renameSync(fresh, path);
      }
    } catch (cause) {
      fill.#close();
      throw cause;
    }
    return fill;
  }

  /** The process below which CRIU's tasks are. Called before any of them is there. */
  within(root: number): void {
    this.#root = root;
  }

  /** Why CRIU was left without memory. */
  get failure(): RestoreError | undefined {
    return this.#failure;
  }

  get done(): { segments: number; bytes: number; ms: number } {
    const segments = [...this.#gates.values()].filter(({ isAsked }) => isAsked).length;
    return { segments, bytes: Number(this.#bytes), ms: Math.round(this.#ms) };
  }

  /** Nobody waits at a fifo after this, and nothing is written any more. */
  async stop(): Promise<void> {
    this.#close();
    await Promise.allSettled(this.#workers);
  }

  #opened(error: Error | null, names = ''): void {
    if (error) {
      this.#fail(error);
      return;
    }
    for (const name of names.split('\n')) {
      const gate = this.#gates.get(name);
      if (!gate || gate.isAsked) continue;
      gate.isAsked = true;
      this.#asked.push(gate);
      if (this.#workers.size < AT_A_TIME) this.#work();
    }
  }

  #work(): void {
    const working = this.#fillAsked().catch((error: unknown) => this.#fail(error));
    this.#workers.add(working);
    void working.then(() => this.#workers.delete(working));
  }

  async #fillAsked(): Promise<void> {
    for (let gate = this.#asked.shift(); gate && gate.fd !== undefined; gate = this.#asked.shift())
      await this.#fill(gate, gate.fd);
  }

  async #fill(gate: Gate, fd: number): Promise<void> {
    const { pagesId, pagesFile, pieces, bytes } = gate.segment;
    const { memory, address } = await this.#placeOf(gate.segment, fd);
    try {
      const pages = await open(join(this.#imagesDir, pagesFile), constants.O_RDONLY | constants.O_NOFOLLOW);
      try {
        const threads = Math.min(availableParallelism(), MOST_THREADS);
        const there = pieces.map((value, i) => (i % 3 === 0 ? address + value : value));
        await this.#calls.copyPages(memory, pages.fd, there, threads);
      } finally {
        await pages.close();
      }
    } finally {
      closeSync(memory);
    }
    // Closed meanwhile where CRIU is not waited for any more.
    if (gate.fd === undefined) return;
    writeSync(gate.fd, writePagemap({ pagesId, runs: [] }));
    closeGate(gate);
    this.#bytes += bytes;
    this.#ms = performance.now() - this.#began;
  }

  /** The one mapping of a task that has the fifo open and, besides CRIU's own, nothing else of the kind. */
  async #placeOf({ image, length }: SharedSegment, fifo: number): Promise<Place> {
    const root = this.#root;
    const { dev, ino } = await stat(`/proc/self/fd/${fifo}`, { bigint: true });
    const isFifo = async (path: string) => {
      if (!(await readlink(path).catch(() => '')).endsWith(`/${image}`)) return false;
      const info = await stat(path, { bigint: true }).catch(() => undefined);
      return info?.dev === dev && info.ino === ino;
    };
    const found: Place[] = [];
    const last = this.#lastPid === undefined ? [] : [this.#lastPid];
    for (const pids of [last, root === undefined ? [] : await treeOf(root, procTree)]) {
      for (const pid of pids) {
        // Before the look: whatever gets the number of this process later, this is its memory and nobody else's.
        const memory = openMemory(pid);
        if (memory === undefined) continue;
        const isWaiting = await hasOpen(pid, isFifo);
        const maps = isWaiting ? await readFile(`/proc/${pid}/maps`, 'utf8').catch(() => '') : '';
        const places = wholeMemfds(maps, length).map((address) => ({ memory, address }));
        if (places.length > 0) this.#lastPid = pid;
        else closeSync(memory);
        found.push(...places);
      }
      if (found.length > 0) break;
    }
    const [place, another] = found;
    if (place && !another) return place;
    for (const memory of new Set(found.map((one) => one.memory))) closeSync(memory);
    throw new RestoreError(
      Code.internal,
      `Cannot tell where CRIU has put the shared memory of "${image}": it is mapped ${found.length} times`,
    );
  }

  /** CRIU then finds every page map cut off. */
  #fail(error: unknown): void {
    const { message } = describeError(error);
    this.#failure ??= new RestoreError(Code.internal, `Cannot fill shared memory: ${message}`, {
      cause: error,
    });
    this.#close();
  }

  #close(): void {
    if (this.#watch !== undefined) this.#calls.watchStop(this.#watch);
    this.#watch = undefined;
    for (const gate of this.#gates.values()) closeGate(gate);
  }
}

function closeGate(gate: Gate): void {
  if (gate.fd !== undefined) closeSync(gate.fd);
  gate.fd = undefined;
}

function openMemory(pid: number): number | undefined {
  try {
    return openSync(`/proc/${pid}/mem`, 'r+');
  } catch {
    // Gone, or about to be.
    return undefined;
  }
}

async function hasOpen(pid: number, isIt: (path: string) => Promise<boolean>): Promise<boolean> {
  for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => []))
    if (await isIt(`/proc/${pid}/fd/${fd}`)) return true;
  return false;
}
