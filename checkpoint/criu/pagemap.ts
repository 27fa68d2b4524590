/** Page maps: which memory of a process, or of a shared memory segment, lies in which pages file. */
import { criu } from '../../proto/gen/criu-dump.js';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import { fromBigInt } from '../int64.ts';
import { decodeMessage } from './decode.ts';
import { broken, Magic, readMessages, writeMessages } from './framing.ts';
import * as wire from './wire.ts';

export const PAGE_BYTES = 4096;

/** Source: CRIU's pagemap.h. */
export const PageFlag = { parent: 1, lazy: 2, present: 4 } as const;

export interface PageRun {
  /** Virtual address, or offset in a shared segment. */
  address: bigint;
  pages: number;
  /** PageFlag bits. */
  flags: number;
}

export interface Pagemap {
  /** The pages are in `pages-<id>.img`: those of present runs, in order, one behind the other. */
  pagesId: number;
  runs: PageRun[];
}

const KNOWN_FLAGS = PageFlag.parent | PageFlag.lazy | PageFlag.present;
/** 2^40 pages are 4 PiB; sums of them stay exact. */
const MAX_PAGES = 2 ** 40;

/**
 * Reads both dialects: the count in field 5 (CRIU 4.2) or in field 2 (before). Unknown fields and flags are refused:
 * they change what the pages file holds (CRIU's development branch compresses pages so).
 */
export function readPagemap(bytes: Uint8Array, name: string): Pagemap {
  const [head, ...entries] = readMessages(bytes, Magic.pagemap, name);
  if (!head) throw broken(name, 'it is empty');
  return {
    pagesId: decodeMessage(criu.dump.PagemapHead, head, name).pagesId,
    runs: entries.map((entry) => readRun(entry, name)),
  };
}

/** Tags of an entry's fields: all of them are varints. */
const Tag = { vaddr: 0x08, compatNrPages: 0x10, inParent: 0x18, flags: 0x20, nrPages: 0x28 } as const;

/** By hand: a page map has thousands, and a restore waits for them. */
function readRun(bytes: Uint8Array, name: string): PageRun {
  let vaddr: Varint | undefined;
  let compatNrPages: Varint | undefined;
  let nrPages: Varint | undefined;
  let flags: Varint | undefined;
  let inParent = false;
  for (let at = 0; at < bytes.length; ) {
    const field = readVarint(bytes, at + 1, name);
    switch (bytes[at]) {
      case Tag.vaddr:
        vaddr = field;
        break;
      case Tag.compatNrPages:
        compatNrPages = field;
        break;
      case Tag.inParent:
        inParent = field.value !== 0;
        break;
      case Tag.flags:
        flags = field;
        break;
      case Tag.nrPages:
        nrPages = field;
        break;
      default:
        throw unknown(name);
    }
    at = field.end;
  }
  const bits = flags?.value ?? (inParent ? PageFlag.parent : PageFlag.present);
  if (bits > KNOWN_FLAGS) throw unknown(name);
  if (!vaddr || !compatNrPages || compatNrPages.value >= 2 ** 32)
    throw broken(name, 'an entry cannot be decoded');
  const pages = (nrPages ?? compatNrPages).value;
  if (pages === 0 || pages > MAX_PAGES) throw broken(name, `a run has ${pages} pages`);
  const address = Number.isSafeInteger(vaddr.value) ? BigInt(vaddr.value) : readExactly(bytes, vaddr, name);
  return { address, pages, flags: bits };
}

interface Varint {
  /** Exact to 2^53. */
  value: number;
  start: number;
  end: number;
}

function readVarint(bytes: Uint8Array, start: number, name: string): Varint {
  let value = 0;
  let scale = 1;
  for (let at = start; at < start + 10; at++) {
    const byte = bytes[at];
    if (byte === undefined) break;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return { value, start, end: at + 1 };
    scale *= 128;
  }
  throw broken(name, 'an entry cannot be decoded');
}

function readExactly(bytes: Uint8Array, { start }: Varint, name: string): bigint {
  return BigInt.asUintN(64, wire.readVarint(bytes, start, name).value);
}

function unknown(name: string): CheckpointError {
  return new CheckpointError(
    Code.unimplemented,
    `Cannot read "${name}" of the checkpoint: it was written by a newer CRIU than this version knows`,
  );
}

/** A page map in both dialects at once: the count in field 5, and in field 2 where it fits. */
export function writePagemap({ pagesId, runs }: Pagemap): Buffer {
  const { PagemapHead, PagemapEntry } = criu.dump;
  return writeMessages(Magic.pagemap, [
    PagemapHead.encode({ pagesId }).finish(),
    ...runs.map(({ address, pages, flags }) =>
      PagemapEntry.encode({
        vaddr: fromBigInt(address) as never,
        compatNrPages: pages < 2 ** 32 ? pages : 0,
        flags,
        nrPages: fromBigInt(BigInt(pages)) as never,
      }).finish(),
    ),
  ]);
}
