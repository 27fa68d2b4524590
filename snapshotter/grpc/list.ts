/**
 * The List call: one moment of the store, sent as fast as the client reads. Everything is read before anything is sent,
 * so that a client that stops reading holds no transaction: SQLite could not reuse its log as long as one is open.
 */
import type { ServerWritableStream } from '@grpc/grpc-js';
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';
import { compileFilters } from '../filter/index.ts';
import type { Listing } from '../store/index.ts';
import { type InfoMessage, type ListRequest, type ListResponse, toInfoMessage } from './messages.ts';

/** containerd's own server sends infos in batches of this size; its client takes messages up to 16 MiB. */
const BATCH = 100;

type ListCall = ServerWritableStream<ListRequest, ListResponse>;

/** Ends the call, or throws what it must end with. DEADLINE_EXCEEDED if the client reads nothing for `stallMs`. */
export async function answerList(call: ListCall, open: () => Listing, stallMs: number): Promise<void> {
  const matches = await compileFilters(call.request.filters);
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
  for (let at = 0; at < found.length; at += BATCH) {
    if (call.cancelled) return;
    if (!call.write({ info: found.slice(at, at + BATCH) })) await drained(call, stallMs);
  }
  call.end();
}

function drained(call: ListCall, stallMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (end: () => void) => {
      clearTimeout(timer);
      call.off('drain', done);
      call.off('cancelled', done);
      end();
    };
    const done = () => settle(resolve);
    const timer = setTimeout(
      () =>
        settle(() =>
          reject(
            new SnapshotError(
              Code.deadlineExceeded,
              `Cannot list snapshots: the client read nothing for ${stallMs} ms`,
            ),
          ),
        ),
      stallMs,
    );
    call.once('drain', done);
    call.once('cancelled', done);
    // Said before anybody listened.
    if (call.cancelled) done();
  });
}
