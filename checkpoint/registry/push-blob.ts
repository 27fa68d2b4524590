import type { Readable } from 'node:stream';
import { Transform } from 'node:stream';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import type { Scope } from './auth.ts';
import { abortFailure, deadlineFailure, type Subject, transportFailure } from './failure.ts';
import { type BlobRef, headBlob } from './read-blob.ts';
import type { Session } from './session.ts';
import { discard, type HttpResponse } from './transport.ts';

export interface BlobSource extends BlobRef {
  /** Opens the bytes from their start; called once a try. */
  open(): Readable;
}

export interface PushOptions {
  /** A repository of the same registry that has the blob: it is mounted instead of sent. */
  mountFrom?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Bytes sent so far of this blob; goes back to 0 where it is tried again. */
  onProgress?: (sent: number) => void;
}

export type PushOutcome = 'exists' | 'mounted' | 'uploaded';

/**
 * Makes sure that a repository has a blob: looks for it, mounts it, or sends it in one piece. The registry checks the
 * digest. Source: distribution-spec 1.1, "Pushing a blob monolithically" and "Mounting a blob".
 */
export async function pushBlob(
  session: Session,
  repository: string,
  blob: BlobSource,
  options: PushOptions = {},
): Promise<PushOutcome> {
  const { signal, mountFrom } = options;
  if ((await headBlob(session, repository, blob.digest, signal)) === blob.size) return 'exists';
  const subject = session.subject(repository, `push the blob ${blob.digest}`);
  return session.retrying(subject, signal, async () => {
    options.onProgress?.(0);
    const scope: Scope = {
      repository,
      actions: 'pull,push',
      ...(mountFrom !== undefined && mountFrom !== repository ? { alsoPull: mountFrom } : {}),
    };
    const location = await startUpload(session, subject, scope, blob, signal);
    if (location === 'mounted') return 'mounted';
    await upload(session, subject, scope, blob, location, options);
    return 'uploaded';
  });
}

async function startUpload(
  session: Session,
  subject: Subject,
  scope: Scope,
  blob: BlobRef,
  signal: AbortSignal | undefined,
): Promise<URL | 'mounted'> {
  const url = session.url(scope.repository, 'blobs/uploads/');
  if (scope.alsoPull !== undefined) {
    url.searchParams.set('mount', blob.digest);
    url.searchParams.set('from', scope.alsoPull);
  }
  const response = await session.send(subject, scope, {
    method: 'POST',
    url,
    headers: { 'content-length': '0' },
    signal,
  });
  if (response.status === 201 && scope.alsoPull !== undefined) {
    await discard(response);
    return 'mounted';
  }
  if (response.status !== 202) throw await session.failure(subject, response);
  await discard(response);
  return uploadUrl(session, subject, response, blob.digest);
}

/** Location may be relative, may carry a query, and may lead to another host. */
function uploadUrl(session: Session, subject: Subject, response: HttpResponse, digest: string): URL {
  const { location } = response.headers;
  let url: URL | undefined;
  try {
    if (typeof location === 'string') url = new URL(location, response.url);
  } catch {
    // Said below.
  }
  const safe = url?.protocol === 'https:' || (url?.protocol === 'http:' && session.base.protocol === 'http:');
  if (!url || !safe) throw transportFailure(subject, 'the registry named no usable place for the upload');
  url.username = '';
  url.password = '';
  url.searchParams.set('digest', digest);
  return url;
}

async function upload(
  session: Session,
  subject: Subject,
  scope: Scope,
  blob: BlobSource,
  url: URL,
  options: PushOptions,
): Promise<void> {
  const watch = new UploadWatch(session, subject, options);
  const source = blob.open();
  const counted = source.pipe(watch.counter(blob.size));
  // pipe() does not carry errors on.
  source.on('error', (cause) => counted.destroy(watch.sourceFailed(cause)));
  try {
    const response = await session.sendOnce(subject, scope, {
      method: 'PUT',
      url,
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(blob.size) },
      body: counted,
      signal: watch.signal,
      headersMs: 0,
    });
    if (response.status === 201) {
      await discard(response);
      return;
    }
    if (response.status === 401 && session.isOwn(url)) {
      // The token ran out on the way: the whole upload has to begin again.
      if ((await session.renew(subject, scope, response)) !== undefined)
        throw transportFailure(subject, 'the token expired during the upload');
    }
    throw await session.failure(subject, response);
  } catch (error) {
    throw watch.reason() ?? error;
  } finally {
    watch.stop();
    source.destroy();
    counted.destroy();
  }
}

/** Ends an upload that does not move, and counts what was sent. */
class UploadWatch {
  readonly #session: Session;
  readonly #subject: Subject;
  readonly #options: PushOptions;
  readonly #stalled = new AbortController();
  readonly signal: AbortSignal;
  #failure: Error | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(session: Session, subject: Subject, options: PushOptions) {
    this.#session = session;
    this.#subject = subject;
    this.#options = options;
    this.signal = options.signal
      ? AbortSignal.any([options.signal, this.#stalled.signal])
      : this.#stalled.signal;
    this.#arm(session.transport.timeouts.readMs);
  }

  counter(size: number): Transform {
    let sent = 0;
    return new Transform({
      transform: (part: Buffer, _, done) => {
        sent += part.length;
        this.#options.onProgress?.(sent);
        const { readMs, commitMs } = this.#session.transport.timeouts;
        this.#arm(sent >= size ? commitMs : readMs);
        done(null, part);
      },
    });
  }

  sourceFailed(cause: Error): Error {
    this.#failure ??= new CheckpointError(
      Code.internal,
      `Cannot ${this.#subject.action}: the file could not be read: ${cause.message}`,
      { cause },
    );
    return this.#failure;
  }

  /** What really ended the upload, where the request only saw its signal or its body fail. */
  reason(): Error | undefined {
    const { signal } = this.#options;
    if (signal?.aborted) return abortFailure(this.#subject, signal);
    return this.#failure;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #arm(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#failure ??= deadlineFailure(this.#subject, ms, 'no sign of progress');
      this.#stalled.abort();
    }, ms);
  }
}
