import { Code, describeError } from '../../proto/status.ts';
import { CliError } from '../error.ts';
import { type Caller, serviceMethods } from './caller.ts';
import { containerdError } from './errors.ts';
import type { ContentInfo } from './types.ts';

const { call, stream, method } = serviceMethods(
  'content/v1/content.proto',
  'containerd.services.content.v1.Content',
);

/** Well below containerd's message limit; larger pieces are not faster. */
const PIECE_BYTES = 1 << 20;
/** Pieces sent before the first answer is waited for. */
const WINDOW = 4;
/** Also covers the fsync of a large blob at its commit. */
const IDLE_MS = 300_000;

interface WireInfo {
  digest: string;
  size: string;
  labels: Record<string, string>;
}

export interface Write {
  digest: string;
  size: bigint;
  labels?: Record<string, string>;
}

export function content(caller: Caller) {
  const readPieces = async function* (
    digest: string,
    range: { offset?: bigint; size?: bigint } = {},
  ): AsyncGenerator<Buffer, void, undefined> {
    const request = { digest, offset: String(range.offset ?? 0n), size: String(range.size ?? 0n) };
    const options = { action: `read the blob ${digest}`, deadlineMs: IDLE_MS };
    for await (const piece of stream<{ data: Buffer }>(caller, 'Read', request, options)) yield piece.data;
  };
  const info = async (digest: string): Promise<ContentInfo> => {
    const action = `look for the blob ${digest}`;
    const answer = await call<{ info: WireInfo }>(caller, 'Info', { digest }, { action });
    return { digest: answer.info.digest, size: BigInt(answer.info.size), labels: answer.info.labels };
  };
  return {
    info,
    /** Undefined if containerd does not have the blob in this namespace. */
    async find(digest: string): Promise<ContentInfo | undefined> {
      try {
        return await info(digest);
      } catch (error) {
        if (describeError(error).code === Code.notFound) return undefined;
        throw error;
      }
    },
    /** The blob's bytes in order; not verified here. */
    read: readPieces,
    /** A small blob as a whole; refuses one that is larger than `maxBytes`. */
    async readAll(digest: string, maxBytes: number): Promise<Buffer> {
      const pieces: Buffer[] = [];
      let length = 0;
      for await (const piece of readPieces(digest)) {
        length += piece.length;
        if (length > maxBytes)
          throw new CliError(
            Code.outOfRange,
            `Cannot read the blob ${digest}: it is larger than the ${maxBytes} bytes expected of it`,
          );
        pieces.push(piece);
      }
      return Buffer.concat(pieces, length);
    },
    async list(filters: string[] = []): Promise<ContentInfo[]> {
      const found: ContentInfo[] = [];
      const options = { action: 'list the content store' };
      for await (const page of stream<{ info: WireInfo[] }>(caller, 'List', { filters }, options))
        for (const { digest, size, labels } of page.info) found.push({ digest, size: BigInt(size), labels });
      return found;
    },
    /** Sets labels, keeping the others; an empty value deletes one. */
    async setLabels(digest: string, labels: Record<string, string>): Promise<void> {
      const paths = Object.keys(labels).map((key) => `labels.${key}`);
      const request = { info: { digest, labels }, updateMask: { paths } };
      await call(caller, 'Update', request, { action: `label the blob ${digest}` });
    },
    async remove(digest: string): Promise<void> {
      await call(caller, 'Delete', { digest }, { action: `delete the blob ${digest}` });
    },
    /**
     * Stores a blob; containerd checks size and digest before it becomes visible. A blob that is there already is
     * success. Nothing partial is left on failure.
     */
    async write(blob: Write, source: AsyncIterable<Uint8Array>): Promise<void> {
      const ref = `thaw-${blob.digest}`;
      const action = `store the blob ${blob.digest}`;
      try {
        await writeBlob(caller, ref, blob, source);
      } catch (caught) {
        const error = containerdError(caught, action, caller.connection.address);
        if (error.code === Code.alreadyExists) return;
        const abort = { action: `abort the write of ${blob.digest}`, signal: undefined };
        await call(caller, 'Abort', { ref }, abort).catch(() => undefined);
        throw error;
      }
    },
  };
}

/**
 * The protocol of Content.Write (services/content/contentserver): STAT names ref, size and digest; each WRITE and the
 * COMMIT are answered in order.
 */
async function writeBlob(
  caller: Caller,
  ref: string,
  blob: Write,
  source: AsyncIterable<Uint8Array>,
): Promise<void> {
  const { connection, scope, signal } = caller;
  const options = { action: `store the blob ${blob.digest}`, deadlineMs: IDLE_MS, signal };
  const { call: session, watch } = connection.duplex(scope, method('Write'), options);
  const answers = session[Symbol.asyncIterator]() as AsyncIterator<{ offset: string }>;
  const answer = async (): Promise<bigint> => {
    watch.rearm();
    const next = await answers.next();
    watch.pause();
    if (next.done) throw new CliError(Code.unavailable, 'containerd ended the write before it was complete');
    return BigInt(next.value.offset);
  };
  const total = String(blob.size);
  try {
    session.write({ action: 'STAT', ref, total, expected: blob.digest });
    await answer();
    let offset = 0n;
    let waiting = 0;
    for await (const data of pieces(source)) {
      // Offset 0 makes containerd discard what an earlier, broken write left under this ref.
      session.write({ action: 'WRITE', ref, total, expected: blob.digest, offset: String(offset), data });
      offset += BigInt(data.length);
      if (++waiting >= WINDOW) {
        await answer();
        waiting--;
      }
    }
    for (; waiting > 0; waiting--) await answer();
    if (offset !== blob.size)
      throw new CliError(
        Code.dataLoss,
        `Cannot store the blob ${blob.digest}: got ${offset} of ${blob.size} bytes`,
      );
    const labels = blob.labels ?? {};
    session.write({ action: 'COMMIT', ref, total, expected: blob.digest, offset: String(offset), labels });
    await answer();
    session.end();
  } catch (error) {
    throw watch.expired ?? error;
  } finally {
    watch.stop();
    session.cancel();
    // cancel() makes the stream emit one more error, which nobody waits for.
    session.on('error', () => undefined);
  }
}

/** Cuts or joins nothing smaller than a message may be: splits what is larger than one piece. */
async function* pieces(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const data of source)
    for (let at = 0; at < data.length; at += PIECE_BYTES) yield data.subarray(at, at + PIECE_BYTES);
}
