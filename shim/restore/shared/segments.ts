/**
 * Which shared memory of a checkpoint is put in place by our own threads instead of CRIU's one: memfds and shared anonymous
 * memory of some size. planSegments is pure.
 */
import { ImageDir } from '../../../checkpoint/criu/image-dir.ts';
import { type DumpedMemfd, MEMFD_IMAGE, readMemfds } from '../../../checkpoint/criu/memfds.ts';
import { PAGE_BYTES, PageFlag, type Pagemap, readPagemap } from '../../../checkpoint/criu/pagemap.ts';
import { type DumpedVma, readVmas } from '../../../checkpoint/criu/tasks.ts';
import { isSharedAnonymous } from '../../../checkpoint/criu/vmas.ts';

export interface SharedSegment {
  /** Its page map. */
  image: string;
  pagesId: number;
  pagesFile: string;
  /** Of all of it, in whole pages: what CRIU maps while it restores it. */
  length: bigint;
  /** Triples for copyPages; the positions are within the segment. */
  pieces: BigUint64Array;
  /** Of the pages that were saved. */
  bytes: bigint;
}

/** What is smaller CRIU reads in less time than it takes to find out where. */
const LEAST_BYTES = 16n << 20n;
const PAGE = BigInt(PAGE_BYTES);
const IMAGE = /^pagemap-shmem-(\d+)\.img$/;

/** Every image but the pages files must be complete. */
export async function readSegments(imagesDir: string): Promise<SharedSegment[]> {
  await using images = await ImageDir.open(imagesDir);
  const names = await images.names();
  const pagemaps = new Map<bigint, Pagemap>();
  for (const name of names) {
    const id = IMAGE.exec(name)?.[1];
    if (id !== undefined) pagemaps.set(BigInt(id), readPagemap(await images.read(name), name));
  }
  if (![...pagemaps.values()].some((pagemap) => savedBytes(pagemap) >= LEAST_BYTES)) return [];
  const memfds = names.includes(MEMFD_IMAGE) ? readMemfds(await images.read(MEMFD_IMAGE)) : [];
  const vmas: DumpedVma[] = [];
  for (const name of names)
    if (/^mm-\d+\.img$/.test(name)) vmas.push(...readVmas(await images.read(name), name));
  return planSegments(pagemaps, memfds, vmas);
}

/** All but what cannot be told exactly, which is left to CRIU: by id, page maps of shared memory. */
export function planSegments(
  pagemaps: ReadonlyMap<bigint, Pagemap>,
  memfds: readonly DumpedMemfd[],
  vmas: readonly DumpedVma[],
): SharedSegment[] {
  const lengths = lengthsOf(memfds, vmas);
  const users = new Map<number, number>();
  for (const { pagesId } of pagemaps.values()) users.set(pagesId, (users.get(pagesId) ?? 0) + 1);
  const segments: SharedSegment[] = [];
  for (const [id, { pagesId, runs }] of pagemaps) {
    const length = lengths.get(id);
    if (length === undefined || users.get(pagesId) !== 1) continue;
    const pieces: bigint[] = [];
    let page = 0n;
    const isPlain = runs.every(({ address, pages, flags }) => {
      pieces.push(address, page, BigInt(pages));
      page += BigInt(pages);
      const ends = address + BigInt(pages) * PAGE;
      return (flags & ~PageFlag.lazy) === PageFlag.present && address % PAGE === 0n && ends <= length;
    });
    if (!isPlain || page * PAGE < LEAST_BYTES) continue;
    segments.push({
      image: `pagemap-shmem-${id}.img`,
      pagesId,
      pagesFile: `pages-${pagesId}.img`,
      length,
      pieces: BigUint64Array.from(pieces),
      bytes: page * PAGE,
    });
  }
  return segments;
}

/** By id. What CRIU makes a memfd for and maps as a whole; pages of huge pages have other rules. */
function lengthsOf(memfds: readonly DumpedMemfd[], vmas: readonly DumpedVma[]): Map<bigint, bigint> {
  const lengths = new Map<bigint, bigint>();
  const others = new Set<bigint>();
  for (const vma of vmas) {
    const { id, offset } = vma.shared;
    const end = offset + (vma.end - vma.start);
    if (!isSharedAnonymous(vma)) others.add(id);
    else if (end > (lengths.get(id) ?? 0n)) lengths.set(id, end);
  }
  for (const id of others) lengths.delete(id);
  for (const { id, bytes, isHuge } of memfds) {
    if (isHuge || lengths.has(id)) lengths.delete(id);
    else lengths.set(id, ((bytes + PAGE - 1n) / PAGE) * PAGE);
  }
  return lengths;
}

function savedBytes({ runs }: Pagemap): bigint {
  return runs.reduce((sum, { pages }) => sum + BigInt(pages) * PAGE, 0n);
}
