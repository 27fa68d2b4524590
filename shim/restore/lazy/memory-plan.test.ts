import { describe, expect, it } from 'vitest';
import { type Chunk, chunkTableOf } from '../../../checkpoint/chunk-table.ts';
import { PageFlag, type PageRun } from '../../../checkpoint/criu/pagemap.ts';
import type { DumpedVma } from '../../../checkpoint/criu/tasks.ts';
import type { CheckpointIndex, IndexFile } from '../../../checkpoint/index-format.ts';
import { imageOrdinals, planMemory } from './memory-plan.ts';

const PAGE = 4096;
const LAZY = PageFlag.present | PageFlag.lazy;

/** A file with chunks of [first page, pages]. */
function file(name: string, size: number, chunks: [number, number][]): Omit<IndexFile, 'firstOrdinal'> {
  const records = chunks.map(
    ([page, pages]): Chunk => ({
      fileOffset: BigInt(page * PAGE),
      layerOffset: 512n,
      storedLength: 1,
      decodedLength: pages * PAGE,
      crc32: 0,
      layer: 0,
      codec: 'lz4',
      digest: new Uint8Array(32),
    }),
  );
  return { name, size: BigInt(size * PAGE), chunks: chunkTableOf(records) };
}

function index(...files: Omit<IndexFile, 'firstOrdinal'>[]): CheckpointIndex {
  let chunkCount = 0;
  const placed = files.map((each) => {
    const firstOrdinal = chunkCount;
    chunkCount += each.chunks.count;
    return { ...each, firstOrdinal };
  });
  const checkpointJson = { offset: 0, length: 0, digest: '' };
  return {
    dataLayers: [],
    files: placed,
    accessOrder: [],
    layerReads: [],
    checkpointJson,
    chunkCount,
  };
}

const run = (page: number, pages: number, flags = LAZY): PageRun => ({
  address: BigInt(page * PAGE),
  pages,
  flags,
});
/** MAP_PRIVATE | MAP_ANONYMOUS */
const ANONYMOUS = 0x22;
const MAP_LOCKED = 0x2000;
const vma = (page: number, pages: number, change: Partial<DumpedVma> = {}): DumpedVma => ({
  start: BigInt(page * PAGE),
  end: BigInt((page + pages) * PAGE),
  status: 0,
  protection: 3,
  flags: ANONYMOUS,
  advice: 0n,
  shared: { id: 0n, offset: 0n },
  ...change,
});

describe('planMemory', () => {
  it('serves what CRIU leaves, has CRIU read the rest, and counts pages over both', () => {
    const images = index(
      file('core-1.img', 1, [[0, 1]]),
      file('pages-1.img', 16, [
        [0, 4],
        [4, 4],
        [12, 4],
      ]),
    );
    const task = {
      pid: 1,
      pagemap: { pagesId: 1, runs: [run(100, 5), run(200, 3, PageFlag.present), run(300, 8)] },
      vmas: [vma(100, 10), vma(200, 3, { flags: ANONYMOUS | MAP_LOCKED }), vma(300, 8)],
    };
    const plan = planMemory(images, [task], []);
    expect(plan?.processes).toEqual([
      {
        pid: 1,
        file: 0,
        pieces: BigUint64Array.of(100n * 4096n, 0n, 5n, 300n * 4096n, 8n, 8n),
      },
    ]);
    expect(plan?.files).toEqual([
      {
        name: 'pages-1.img',
        size: 16n * 4096n,
        firstOrdinal: 1,
        chunks: BigUint64Array.of(0n, 4n, 4n, 4n, 12n, 4n),
      },
    ]);
    // Pages 5 to 7 are CRIU's, and chunk 2 has them.
    expect(plan?.eager).toEqual([2]);
    expect(plan?.lazyBytes).toBe(13n * 4096n);
    expect(plan?.pagemaps.size).toBe(0);
    expect(imageOrdinals(images)).toEqual([0]);
  });

  it('ends runs where mappings do, so that no copy goes over the end of one', () => {
    const task = {
      pid: 7,
      pagemap: { pagesId: 1, runs: [run(100, 6)] },
      vmas: [vma(100, 2), vma(102, 4)],
    };
    const plan = planMemory(index(file('pages-1.img', 6, [[0, 6]])), [task], []);
    expect(plan?.processes[0]?.pieces).toEqual(BigUint64Array.of(100n * 4096n, 0n, 2n, 102n * 4096n, 2n, 4n));
  });

  it('takes guard regions for parts of the mappings that they lie in', () => {
    const guard = vma(104, 1, { status: 1 << 16 });
    const task = {
      pid: 1,
      pagemap: { pagesId: 1, runs: [run(100, 4), run(105, 2)] },
      vmas: [vma(200, 1), vma(100, 10), guard],
    };
    const plan = planMemory(index(file('pages-1.img', 6, [[0, 6]])), [task], []);
    expect(plan?.processes[0]?.pieces).toEqual(BigUint64Array.of(100n * 4096n, 0n, 4n, 105n * 4096n, 4n, 2n));
  });

  it('reads shared memory before: CRIU never fills it later', () => {
    const images = index(
      file('pages-1.img', 4, [[0, 4]]),
      file('pages-2.img', 8, [
        [0, 4],
        [4, 4],
      ]),
    );
    const task = { pid: 1, pagemap: { pagesId: 1, runs: [run(100, 4)] }, vmas: [vma(100, 4)] };
    const shared = { pagesId: 2, runs: [run(0, 3, PageFlag.present)] };
    expect(planMemory(images, [task], [shared])?.eager).toEqual([1]);
  });

  it('has CRIU read what a child is to find wiped', () => {
    const task = {
      pid: 1,
      pagemap: { pagesId: 1, runs: [run(100, 2), run(200, 2)] },
      vmas: [vma(100, 2, { advice: 1n << 18n }), vma(200, 2)],
    };
    const plan = planMemory(index(file('pages-1.img', 4, [[0, 4]])), [task], []);
    expect(plan?.pagemaps.get('pagemap-1.img')?.runs).toEqual([run(100, 2, PageFlag.present), run(200, 2)]);
    expect(plan?.processes[0]?.pieces).toEqual(BigUint64Array.of(200n * 4096n, 2n, 2n));
    expect(plan?.eager).toEqual([0]);
  });

  it('lists a task without memory of that kind, whose descriptor CRIU sends all the same', () => {
    const task = {
      pid: 3,
      pagemap: { pagesId: 1, runs: [run(100, 1, PageFlag.present)] },
      vmas: [vma(100, 1)],
    };
    const plan = planMemory(index(file('pages-1.img', 1, [[0, 1]])), [task], []);
    expect(plan).toMatchObject({ processes: [{ pid: 3, file: -1 }], files: [], lazyBytes: 0n });
  });

  it('gives up where chunks end within a page', () => {
    const odd = file('pages-1.img', 1, [[0, 1]]);
    const chunks = chunkTableOf([{ ...odd.chunks.chunk(0), decodedLength: 100 }]);
    expect(planMemory(index({ ...odd, chunks }), [], [])).toBeUndefined();
  });

  it.each([
    [
      'a lazy page that CRIU would never fill',
      [run(100, 1)],
      [vma(100, 1, { flags: ANONYMOUS | MAP_LOCKED })],
      /never fills/,
    ],
    ['mappings over each other', [run(100, 1)], [vma(100, 2), vma(101, 2)], /overlap/],
    ['a page outside of all mappings', [run(100, 2)], [vma(100, 1)], /outside of all mappings/],
  ])('refuses %s', (_, runs, vmas, reason) => {
    const task = { pid: 1, pagemap: { pagesId: 1, runs }, vmas };
    expect(() => planMemory(index(file('pages-1.img', 2, [[0, 2]])), [task], [])).toThrow(reason);
  });

  it('refuses a pages file that two page maps name', () => {
    const task = (pid: number) => ({
      pid,
      pagemap: { pagesId: 1, runs: [run(100, 1)] },
      vmas: [vma(100, 1)],
    });
    expect(() => planMemory(index(file('pages-1.img', 1, [[0, 1]])), [task(1), task(2)], [])).toThrow(
      /another page map/,
    );
  });
});
