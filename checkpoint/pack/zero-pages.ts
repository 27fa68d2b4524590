/** Bytes of a memory page; trimming is in whole pages, which is how zeros come in a dump. */
export const PAGE_BYTES = 4096;

const zeros = Buffer.alloc(1024 * 1024);

function isZero(bytes: Buffer): boolean {
  return bytes.equals(zeros.subarray(0, bytes.length));
}

/**
 * The part of `slot` (at most 1 MiB) without the zero pages at its beginning and end, as [from, to); undefined if all
 * of it is zeros.
 */
export function trimZeroPages(slot: Buffer): [number, number] | undefined {
  if (isZero(slot)) return undefined;
  let from = 0;
  while (isZero(slot.subarray(from, from + PAGE_BYTES))) from += PAGE_BYTES;
  let to = slot.length;
  while (true) {
    const start = Math.floor((to - 1) / PAGE_BYTES) * PAGE_BYTES;
    if (!isZero(slot.subarray(start, to))) return [from, to];
    to = start;
  }
}
