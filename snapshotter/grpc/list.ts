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
/** Of names and labels in a batch: at most three bytes each in UTF-8. */
const BATCH_CHARACTERS = 4 << 20;

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
  for (const info of batches(found)) {
    if (call.cancelled) return;
    if (!call.send(encode({ info }))) await call.drained(stallMs);
  }
}

/** Fewer in one where they are large: containerd takes no longer message, and then collects no garbage any more. */
function* batches(infos: readonly InfoMessage[]): Generator<InfoMessage[]> {
  let batch: InfoMessage[] = [];
  let characters = 0;
  for (const info of infos) {
    const more = charactersOf(info);
    if (batch.length === BATCH || (batch.length > 0 && characters + more > BATCH_CHARACTERS)) {
      yield batch;
      batch = [];
      characters = 0;
    }
    batch.push(info);
    characters += more;
  }
  if (batch.length > 0) yield batch;
}

function charactersOf({ name, parent, labels }: InfoMessage): number {
  let sum = name.length + parent.length;
  for (const key of Object.keys(labels)) sum += key.length + (labels[key]?.length ?? 0);
  return sum;
}
