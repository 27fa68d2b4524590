/** Page maps: which memory of a process, or of a shared memory segment, lies in which pages file. */
import protobuf from 'protobufjs/minimal.js';
import { criu } from '../../proto/gen/criu-dump.js';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import { fromBigInt, type Int64, toBigInt } from '../int64.ts';
import { decodeMessage, optional } from './decode.ts';
import { broken, Magic, readMessages, writeMessages } from './framing.ts';

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
const MAX_PAGES = 2n ** 40n;

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

function readRun(bytes: Uint8Array, name: string): PageRun {
  const reader = protobuf.Reader.create(bytes);
  reader.discardUnknown = false;
  const entry = decodeMessage({ decode: () => criu.dump.PagemapEntry.decode(reader) }, bytes, name);
  const flags = optional(entry, 'flags') ?? (entry.inParent === true ? PageFlag.parent : PageFlag.present);
  if (entry.$unknowns !== undefined || (flags & ~KNOWN_FLAGS) !== 0)
    throw new CheckpointError(
      Code.unimplemented,
      `Cannot read "${name}" of the checkpoint: it was written by a newer CRIU than this version knows`,
    );
  const pages = toBigInt((optional(entry, 'nrPages') as Int64 | undefined) ?? entry.compatNrPages);
  if (pages === 0n || pages > MAX_PAGES) throw broken(name, `a run has ${pages} pages`);
  return { address: toBigInt(entry.vaddr as Int64), pages: Number(pages), flags };
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
