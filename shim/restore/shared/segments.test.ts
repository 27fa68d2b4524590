import { expect, it } from 'vitest';
import type { DumpedMemfd } from '../../../checkpoint/criu/memfds.ts';
import { PageFlag, type Pagemap } from '../../../checkpoint/criu/pagemap.ts';
import type { DumpedVma } from '../../../checkpoint/criu/tasks.ts';
import { planSegments } from './segments.ts';

const PAGE = 4096n;
const LARGE = 5000;
/** CRIU's image.h, and MAP_SHARED | MAP_ANONYMOUS. */
const ANON_SHARED = 1 << 8;
const SYSVIPC = 1 << 10;
const MEMFD = 1 << 14;
const MAP_HUGETLB = 0x40000;

const pagemap = (pages = LARGE, change: Partial<Pagemap> = {}): Pagemap => ({
  pagesId: 7,
  runs: [
    { address: 2n * PAGE, pages: 100, flags: PageFlag.present },
    { address: 200n * PAGE, pages: pages - 100, flags: PageFlag.present },
  ],
  ...change,
});
const memfd = (change: Partial<DumpedMemfd> = {}): DumpedMemfd => ({
  id: 3n,
  bytes: 6000n * PAGE - 1n,
  isHuge: false,
  ...change,
});
const vma = (offset: bigint, pages: bigint, change: Partial<DumpedVma> = {}): DumpedVma => ({
  start: 0x7f0000000000n,
  end: 0x7f0000000000n + pages * PAGE,
  status: ANON_SHARED | 1,
  protection: 3,
  flags: 0x21,
  advice: 0n,
  shared: { id: 3n, offset: offset * PAGE },
  ...change,
});
const plan = (map: Pagemap, memfds: DumpedMemfd[], vmas: DumpedVma[] = [], more: [bigint, Pagemap][] = []) =>
  planSegments(new Map([[3n, map], ...more]), memfds, vmas);

it('takes a memfd, whose length is in whole pages', () => {
  expect(plan(pagemap(), [memfd()], [vma(0n, 6000n, { status: MEMFD })])).toEqual([
    {
      image: 'pagemap-shmem-3.img',
      pagesId: 7,
      pagesFile: 'pages-7.img',
      length: 6000n * PAGE,
      pieces: BigUint64Array.of(2n * PAGE, 0n, 100n, 200n * PAGE, 100n, 4900n),
      bytes: 5000n * PAGE,
    },
  ]);
});

it('takes shared anonymous memory, which is as long as its mappings say together', () => {
  const found = plan(pagemap(), [], [vma(0n, 64n), vma(64n, 5936n), vma(10n, 20n)]);
  expect(found).toMatchObject([{ length: 6000n * PAGE }]);
});

it.each([
  ['small memory', pagemap(4000), [memfd()], []],
  ['memory of huge pages', pagemap(), [memfd({ isHuge: true })], []],
  ['anonymous memory of huge pages', pagemap(), [], [vma(0n, 6000n, { flags: 0x21 | MAP_HUGETLB })]],
  ['System V memory', pagemap(), [], [vma(0n, 6000n, { status: ANON_SHARED | SYSVIPC })]],
  ['memory that is nobody’s', pagemap(), [], []],
  ['memory that is two things at once', pagemap(), [memfd()], [vma(0n, 6000n)]],
  ['pages behind its end', pagemap(), [memfd({ bytes: 5000n * PAGE })], []],
  [
    'pages of an earlier dump',
    pagemap(LARGE, { runs: [...pagemap().runs, { address: 0n, pages: 1, flags: PageFlag.parent }] }),
    [memfd()],
    [],
  ],
] as const)('leaves to CRIU %s', (_, map, memfds, vmas) => {
  expect(plan(map, [...memfds], [...vmas])).toEqual([]);
});

it('leaves to CRIU what shares its pages file', () => {
  expect(plan(pagemap(), [memfd()], [], [[4n, pagemap()]])).toEqual([]);
});
