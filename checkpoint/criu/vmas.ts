/** What CRIU and the kernel make of a mapping. */
import type { DumpedVma } from './tasks.ts';

/** Linux's mman.h. */
const MAP_PRIVATE = 0x02;
const MAP_ANONYMOUS = 0x20;
const MAP_LOCKED = 0x2000;
const MAP_HUGETLB = 0x40000;
const MADV_WIPEONFORK = 18n;
/** CRIU's image.h. */
const STATUS_VSYSCALL = 1 << 2;
const STATUS_VDSO = 1 << 3;
const STATUS_VVAR = 1 << 12;
const STATUS_ANON_SHARED = 1 << 8;
const STATUS_SYSVIPC = 1 << 10;
const STATUS_MEMFD = 1 << 14;
const STATUS_GUARD = 1 << 16;

/** Whether CRIU leaves its pages to a lazy-pages server. Source: vma_entry_can_be_lazy in CRIU's vma.h. */
export function canBeLazy({ flags, status }: DumpedVma): boolean {
  const both = MAP_PRIVATE | MAP_ANONYMOUS;
  return (
    (flags & both) === both &&
    (flags & (MAP_LOCKED | MAP_HUGETLB)) === 0 &&
    (status & (STATUS_VSYSCALL | STATUS_VDSO | STATUS_VVAR)) === 0
  );
}

/** A child finds zeros here, whatever the parent has. */
export function isWipedOnFork({ advice }: DumpedVma): boolean {
  return ((advice >> MADV_WIPEONFORK) & 1n) === 1n;
}

/** No mapping, but a part of one that nobody may touch (MADV_GUARD_INSTALL). Source: CRIU 4.2's image.h. */
export function isGuard({ status }: DumpedVma): boolean {
  return (status & STATUS_GUARD) !== 0;
}

/** Of a memfd that CRIU makes for shared anonymous memory. Source: open_shmem in CRIU's shmem.c. */
export function isSharedAnonymous({ flags, status }: DumpedVma): boolean {
  const others = STATUS_SYSVIPC | STATUS_MEMFD;
  return (status & STATUS_ANON_SHARED) !== 0 && (status & others) === 0 && (flags & MAP_HUGETLB) === 0;
}
