/** Reading blobs, whole and in ranges. What arrives is exactly what was asked for, once each, or an error comes. */
import { createHash } from 'node:crypto';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import { abortFailure, contentFailure, type Subject, transportFailure } from './failure.ts';
import { pause, retryDelay } from './retry.ts';
import type { Session } from './session.ts';
import { discard, type HttpResponse } from './transport.ts';

export interface BlobRef {
  digest: string;
  /** Bytes. */
  size: number;
}

export interface RangeOptions {
  signal?: AbortSignal | undefined;
  /** Where blobs were redirected to, kept between ranges of one blob. */
  locations?: BlobLocations;
}

/**
 * How much of a whole-body answer is read and dropped to get to a range, when a registry ignores Range. Beyond it
 * the blob would be sent again and again.
 */
const MAX_SKIPPED_BYTES = 64 * 1024 * 1024;
/** Bytes that must have come for the count of failed tries to begin anew. */
const PROGRESS_BYTES = 64 * 1024;

/** Addresses (often presigned) that a registry redirected blobs to. Never shown: their query is a credential. */
export class BlobLocations {
  readonly #urls = new Map<string, URL>();

  get(repository: string, digest: string): URL | undefined {
    return this.#urls.get(`${repository}@${digest}`);
  }

  set(repository: string, digest: string, url: URL): void {
    if (this.#urls.size >= 4096) this.#urls.clear();
    this.#urls.set(`${repository}@${digest}`, url);
  }

  delete(repository: string, digest: string): void {
    this.#urls.delete(`${repository}@${digest}`);
  }
}

/** Size of a blob, undefined if the repository does not have it. */
export async function headBlob(
  session: Session,
  repository: string,
  digest: string,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  const subject = session.subject(repository, `look for the blob ${digest}`);
  return session.retrying(subject, signal, async () => {
    const response = await session.send(
      subject,
      { repository, actions: 'pull' },
      { method: 'HEAD', url: session.url(repository, `blobs/${digest}`), headers: {}, signal },
    );
    await discard(response);
    if (response.status === 404) return undefined;
    if (response.status !== 200) throw await session.failure(subject, response);
    const size = Number(response.headers['content-length'] ?? Number.NaN);
    if (!Number.isSafeInteger(size) || size < 0)
      throw contentFailure(subject, 'the registry does not say how large it is');
    return size;
  });
}

/**
 * `length` bytes of a blob from `offset` on, as they come. Broken and stalled connections are continued where they
 * broke, under the session's retry policy. The bytes are NOT verified: the caller knows digests of parts.
 */
export async function* readBlobRange(
  session: Session,
  repository: string,
  digest: string,
  offset: number,
  length: number,
  options: RangeOptions = {},
): AsyncGenerator<Buffer> {
  const subject = session.subject(repository, `read the blob ${digest}`);
  yield* resuming(session, subject, options.signal, length, (done) =>
    openRange(session, subject, repository, digest, offset + done, length - done, options),
  );
}

/** A whole blob as it comes; throws dataLoss at its end if the bytes do not have its digest. */
export async function* readBlob(
  session: Session,
  repository: string,
  blob: BlobRef,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const subject = session.subject(repository, `read the blob ${blob.digest}`);
  const hash = createHash('sha256');
  const parts = resuming(session, subject, signal, blob.size, (done) =>
    done === 0
      ? openWhole(session, subject, repository, blob, signal)
      : openRange(session, subject, repository, blob.digest, done, blob.size - done, { signal }),
  );
  for await (const part of parts) {
    hash.update(part);
    yield part;
  }
  if (`sha256:${hash.digest('hex')}` !== blob.digest)
    throw contentFailure(subject, 'its bytes do not have the digest they should have');
}

/** A whole blob in memory, verified. A blob above `maxBytes` is refused. */
export async function readBlobBytes(
  session: Session,
  repository: string,
  blob: BlobRef,
  maxBytes: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  if (blob.size > maxBytes)
    throw new CheckpointError(
      Code.resourceExhausted,
      `Cannot read the blob ${blob.digest}: it has ${blob.size} bytes, more than the ${maxBytes} that it may have`,
    );
  const subject = session.subject(repository, `read the blob ${blob.digest}`);
  // Damage on the way is worth another try; damage in the registry fails again.
  let tries = 0;
  while (true) {
    try {
      const parts: Buffer[] = [];
      for await (const part of readBlob(session, repository, blob, signal)) parts.push(part);
      return Buffer.concat(parts);
    } catch (error) {
      const damaged = error instanceof CheckpointError && error.code === Code.dataLoss;
      if (!damaged || ++tries >= 2) throw error;
      await pause(session.retry.baseMs, signal, (s) => abortFailure(subject, s));
    }
  }
}

/** Runs `open` again for what is missing until `length` bytes came. */
async function* resuming(
  session: Session,
  subject: Subject,
  signal: AbortSignal | undefined,
  length: number,
  open: (done: number) => AsyncGenerator<Buffer>,
): AsyncGenerator<Buffer> {
  let done = 0;
  let attempt = 0;
  let sinceFailure = 0;
  while (done < length) {
    try {
      for await (const part of open(done)) {
        done += part.length;
        sinceFailure += part.length;
        yield part;
      }
      if (done >= length) return;
      throw transportFailure(subject, 'the connection ended before all bytes had come');
    } catch (error) {
      if (signal?.aborted) throw abortFailure(subject, signal);
      attempt = sinceFailure >= PROGRESS_BYTES ? 1 : attempt + 1;
      sinceFailure = 0;
      const delay = retryDelay(session.retry, attempt, error, Math.random);
      if (delay === undefined) throw error;
      await pause(delay, signal, (s) => abortFailure(subject, s));
    }
  }
}

async function* openWhole(
  session: Session,
  subject: Subject,
  repository: string,
  blob: BlobRef,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const response = await session.send(
    subject,
    { repository, actions: 'pull' },
    {
      method: 'GET',
      url: session.url(repository, `blobs/${blob.digest}`),
      headers: { 'accept-encoding': 'identity' },
      signal,
    },
  );
  if (response.status !== 200) throw await session.failure(subject, response);
  const stated = response.headers['content-length'];
  if (stated !== undefined && Number(stated) !== blob.size) {
    await discard(response);
    throw contentFailure(subject, `it has ${stated} bytes where the image says ${blob.size}`);
  }
  yield* exactly(session, subject, response, 0, blob.size, true, signal);
}

async function* openRange(
  session: Session,
  subject: Subject,
  repository: string,
  digest: string,
  offset: number,
  length: number,
  options: RangeOptions,
): AsyncGenerator<Buffer> {
  const { signal, locations } = options;
  const response = await requestRange(session, subject, repository, digest, offset, length, options);
  if (locations && !session.isOwn(response.url) && (response.status === 206 || response.status === 200))
    locations.set(repository, digest, response.url);
  if (response.status === 416) {
    await discard(response);
    throw contentFailure(subject, 'it is shorter in the registry than the image says');
  }
  if (response.status !== 206 && response.status !== 200) throw await session.failure(subject, response);
  try {
    checkEncoding(subject, response);
    if (response.status === 206) checkContentRange(subject, response, offset, length);
    else if (offset > MAX_SKIPPED_BYTES)
      throw new CheckpointError(
        Code.failedPrecondition,
        `Cannot ${subject.action}: registry ${session.registry} cannot send parts of a blob; use a registry that supports range requests`,
      );
  } catch (error) {
    await discard(response);
    throw error;
  }
  const skip = response.status === 206 ? 0 : offset;
  yield* exactly(session, subject, response, skip, length, false, signal);
}

/** Tries the address remembered for the blob; if that has expired, asks the registry again. */
async function requestRange(
  session: Session,
  subject: Subject,
  repository: string,
  digest: string,
  offset: number,
  length: number,
  { signal, locations }: RangeOptions,
): Promise<HttpResponse> {
  const headers = { range: `bytes=${offset}-${offset + length - 1}`, 'accept-encoding': 'identity' };
  // A whole body where a part was asked for is read to its end or not, but never kept.
  const bulk = true;
  const known = locations?.get(repository, digest);
  if (known) {
    try {
      const response = await session.transport.send(subject, {
        method: 'GET',
        url: known,
        headers,
        signal,
        bulk,
      });
      if (response.status === 206 || response.status === 200 || response.status === 429) return response;
      await discard(response);
    } catch (error) {
      locations?.delete(repository, digest);
      throw error;
    }
    locations?.delete(repository, digest);
  }
  const url = session.url(repository, `blobs/${digest}`);
  const response = await session.send(
    subject,
    { repository, actions: 'pull' },
    { method: 'GET', url, headers, signal, bulk },
  );
  // A refusal by the store behind a redirect is about the redirect, which the next try gets anew.
  if ((response.status === 401 || response.status === 403) && !session.isOwn(response.url)) {
    await discard(response);
    throw transportFailure(subject, `the blob store at ${response.url.host} answered ${response.status}`);
  }
  return response;
}

function checkEncoding(subject: Subject, response: HttpResponse): void {
  const encoding = response.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity')
    throw contentFailure(subject, 'the registry sent it in a content encoding that was not asked for');
}

/** A server may send less than was asked for (RFC 9110 §15.3.7), but nothing else. */
function checkContentRange(subject: Subject, response: HttpResponse, offset: number, length: number): void {
  const match = /^bytes (\d{1,16})-(\d{1,16})\/(?:\d{1,16}|\*)$/.exec(
    response.headers['content-range'] ?? '',
  );
  const first = Number(match?.[1] ?? Number.NaN);
  const last = Number(match?.[2] ?? Number.NaN);
  if (first === offset && last >= first && last < offset + length) return;
  throw transportFailure(subject, 'the registry sent another range than was asked for');
}

/** Drops `skip` bytes, then yields up to `length`. More than that is an error only for a whole blob. */
async function* exactly(
  session: Session,
  subject: Subject,
  response: HttpResponse,
  skip: number,
  length: number,
  whole: boolean,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  let toSkip = skip;
  let left = length;
  for await (const part of session.transport.readBody(subject, response, signal)) {
    const wanted = part.subarray(Math.min(toSkip, part.length));
    toSkip -= part.length - wanted.length;
    if (whole && wanted.length > left) throw contentFailure(subject, 'it is longer than the image says');
    const taken = wanted.subarray(0, left);
    left -= taken.length;
    if (taken.length > 0) yield taken;
    if (left === 0 && !whole) return;
  }
}
