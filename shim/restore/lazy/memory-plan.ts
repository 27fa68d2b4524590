/**
 * Which memory of a checkpoint arrives while its processes already run, and what CRIU reads before. Pure: images and index
 * in, page maps for the page server out.
 */
import { broken } from '../../../checkpoint/criu/framing.ts';
import { PAGE_BYTES, PageFlag, type Pagemap, type PageRun } from '../../../checkpoint/criu/pagemap.ts';
import type { DumpedVma } from '../../../checkpoint/criu/tasks.ts';
import { canBeLazy, isGuard, isWipedOnFork } from '../../../checkpoint/criu/vmas.ts';
import type { CheckpointIndex, IndexFile } from '../../../checkpoint/index-format.ts';
import type { PagedProcess } from '../../../native/page-server/calls.ts';

export interface TaskImages {
  pid: number;
  pagemap: Pagemap;
  vmas: readonly DumpedVma[];
}

export interface LazyFile {
  name: string;
  size: bigint;
  firstOrdinal: number;
  /** For each chunk: its first page, and how many. */
  chunks: BigUint64Array;
}

export interface MemoryPlan {
  files: LazyFile[];
  processes: PagedProcess[];
  /** Page maps that CRIU must be given instead of the saved ones, by file name. */
  pagemaps: Map<string, Pagemap>;
  /** Ordinals of the chunks of pages files that CRIU itself reads. */
  eager: number[];
  /** Of memory that arrives later. */
  lazyBytes: bigint;
}

const PAGE = BigInt(PAGE_BYTES);
const PAGES_FILE = /^pages-\d+\.img$/;

export function isPagesFile(name: string): boolean {
  return PAGES_FILE.test(name);
}

/** Ordinals of everything that is no memory: small, and needed before anything else. */
export function imageOrdinals(index: CheckpointIndex): number[] {
  return index.files
    .filter(({ name }) => !isPagesFile(name))
    .flatMap(({ chunks, firstOrdinal }) => Array.from({ length: chunks.count }, (_, i) => firstOrdinal + i));
}

/**
 * Undefined where memory cannot be served page by page: chunks that end within a page. `others` are the page maps of
 * shared memory. Throws dataLoss for page maps that contradict themselves or the mappings.
 */
export function planMemory(
  index: CheckpointIndex,
  tasks: readonly TaskImages[],
  others: readonly Pagemap[],
): MemoryPlan | undefined {
  const pagesFiles = new Map(
    index.files.filter(({ name }) => isPagesFile(name)).map((file) => [file.name, file]),
  );
  for (const { chunks } of pagesFiles.values()) {
    for (let i = 0; i < chunks.count; i++)
      if (chunks.fileOffset(i) % PAGE !== 0n || chunks.decodedLength(i) % PAGE_BYTES !== 0) return undefined;
  }
  const plan: MemoryPlan = { files: [], processes: [], pagemaps: new Map(), eager: [], lazyBytes: 0n };
  const eager = new Set<number>();
  const used = new Set<number>();
  const fileOf = (pagemap: Pagemap, name: string): IndexFile | undefined => {
    if (used.has(pagemap.pagesId))
      throw broken(name, `another page map has pages-${pagemap.pagesId}.img too`);
    used.add(pagemap.pagesId);
    return pagesFiles.get(`pages-${pagemap.pagesId}.img`);
  };
  for (const { pid, pagemap, vmas } of tasks) {
    const name = `pagemap-${pid}.img`;
    const { pieces, read, edited } = splitRuns(pagemap.runs, mappingsOf(vmas, name), name);
    const file = fileOf(pagemap, name);
    if (!file && pieces.length > 0) throw broken(`pages-${pagemap.pagesId}.img`, 'it is missing');
    if (file) for (const ordinal of chunksOf(file, read)) eager.add(ordinal);
    if (edited) plan.pagemaps.set(name, { ...pagemap, runs: edited });
    // CRIU sends the descriptor of every task, also of one whose pages it reads all by itself.
    plan.processes.push({
      pid,
      file: file && pieces.length > 0 ? plan.files.length : -1,
      pieces: BigUint64Array.from(pieces),
    });
    for (let i = 2; i < pieces.length; i += 3) plan.lazyBytes += (pieces[i] as bigint) * PAGE;
    if (file && pieces.length > 0) plan.files.push(lazyFile(file));
  }
  for (const pagemap of others) {
    const file = fileOf(pagemap, 'pagemap-shmem');
    if (!file) continue;
    let page = 0n;
    const read: [bigint, bigint][] = [];
    for (const run of pagemap.runs.filter(isPresent)) {
      read.push([page, page + BigInt(run.pages)]);
      page += BigInt(run.pages);
    }
    for (const ordinal of chunksOf(file, read)) eager.add(ordinal);
  }
  plan.eager = [...eager].sort((a, b) => a - b);
  return plan;
}

/** In order of address. */
function mappingsOf(vmas: readonly DumpedVma[], name: string): DumpedVma[] {
  const mappings = vmas.filter((vma) => !isGuard(vma)).sort((a, b) => (a.start < b.start ? -1 : 1));
  if (mappings.some(({ start }, i) => i > 0 && start < (mappings[i - 1] as DumpedVma).end))
    throw broken(name, 'mappings of its process overlap');
  return mappings;
}

function isPresent(run: PageRun): boolean {
  return (run.flags & PageFlag.present) !== 0;
}

interface SplitRuns {
  /** Flat triples for the page server. */
  pieces: bigint[];
  /** Page ranges of the pages file that CRIU reads. */
  read: [bigint, bigint][];
  /** The runs as CRIU must see them, if that differs. */
  edited: PageRun[] | undefined;
}

/** Runs end where mappings do: one copy never goes over the end of a mapping. */
function splitRuns(runs: readonly PageRun[], vmas: readonly DumpedVma[], name: string): SplitRuns {
  const pieces: bigint[] = [];
  const read: [bigint, bigint][] = [];
  const seen: PageRun[] = [];
  let differs = false;
  let page = 0n;
  let at = 0;
  for (const run of runs) {
    const end = run.address + BigInt(run.pages) * PAGE;
    for (let address = run.address; address < end; ) {
      while (at < vmas.length && (vmas[at] as DumpedVma).end <= address) at++;
      const vma = vmas[at];
      if (!vma || vma.start > address) throw broken(name, 'it has pages outside of all mappings');
      const last = vma.end < end ? vma.end : end;
      const pages = (last - address) / PAGE;
      const isLazy = isPresent(run) && (run.flags & PageFlag.lazy) !== 0;
      if (isLazy && !canBeLazy(vma))
        throw broken(name, 'it has lazy pages in a mapping that CRIU never fills later');
      // No event tells of a child's wiped memory, so nothing of it may be left to copy.
      const served = isLazy && !isWipedOnFork(vma);
      if (isLazy && !served) differs = true;
      seen.push({
        address,
        pages: Number(pages),
        flags: served ? run.flags : run.flags & ~PageFlag.lazy,
      });
      if (isPresent(run)) {
        if (served) pieces.push(address, page, pages);
        else read.push([page, page + pages]);
        page += pages;
      }
      address = last;
    }
  }
  return { pieces, read, edited: differs ? seen : undefined };
}

/** Ordinals of the file's chunks that have a page of the ranges, which are in order. */
function chunksOf(file: IndexFile, ranges: readonly [bigint, bigint][]): number[] {
  const { chunks, firstOrdinal } = file;
  const ordinals: number[] = [];
  let i = 0;
  for (const [from, to] of ranges) {
    const start = from * PAGE;
    const end = to * PAGE;
    while (i < chunks.count && chunks.fileOffset(i) + BigInt(chunks.decodedLength(i)) <= start) i++;
    for (let j = i; j < chunks.count && chunks.fileOffset(j) < end; j++) ordinals.push(firstOrdinal + j);
  }
  return ordinals;
}

function lazyFile({ name, size, chunks, firstOrdinal }: IndexFile): LazyFile {
  const pairs = new BigUint64Array(chunks.count * 2);
  for (let i = 0; i < chunks.count; i++) {
    pairs[2 * i] = chunks.fileOffset(i) / PAGE;
    pairs[2 * i + 1] = BigInt(chunks.decodedLength(i)) / PAGE;
  }
  return { name, size, chunks: pairs, firstOrdinal };
}
