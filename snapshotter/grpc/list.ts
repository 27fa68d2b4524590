/**
 * The List call: one moment of the store, sent as fast as the client reads. Everything is read before anything is sent,
 * so that a client that stops reading holds no transaction: SQLite could not reuse its log as long as one is open.
 */
import { compileFilters } from '../filter/index.ts';
import type { Listing } from '../store/index.ts';
import type { Call } from './call.ts';
import { type InfoMessage, type ListResponse, toInfoMessage } from './messages.ts';

/** containerd's own server sends infos in batches of this size; its client takes messages up to 16 MiB. */
const BATCH = 100;

export interface ListOptions {
  open: () => Listing;
  /** What was read is on disk. */
  flushed: () => Promise<void> | undefined;
  encode: (message: ListResponse) => Uint8Array;
  /** How long a client may read nothing. */
  stallMs: number;
}

/** Throws what the call must end with. DEADLINE_EXCEEDED if the client reads nothing for `stallMs`. */
export async function answerList(
  filters: readonly string[],
  call: Call,
  { open, flushed, encode, stallMs }: ListOptions,
): Promise<void> {
  const matches = await compileFilters(filters);
  const found: InfoMessage[] = [];
  const listing = open();
  try {
    for (let page = listing.next(BATCH); page.length > 0 && !call.cancelled; page = listing.next(BATCH)) {
      for (const info of page) if (matches(info)) found.push(toInfoMessage(info));
      // Other calls go on between pages.
      await new Promise((resolve) => setImmediate(resolve));
    }
  } finally {
    listing.close();
  }
  await flushed();
  for (let at = 0; at < found.length; at += BATCH) {
    if (call.cancelled) return;
    if (!call.send(encode({ info: found.slice(at, at + BATCH) }))) await call.drained(stallMs);
  }
}
