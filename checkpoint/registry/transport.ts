/** HTTP as the registry client needs it: one request, its redirects, and a body that cannot stall for ever. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { type Dispatcher, request } from 'undici';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import { type BulkConnections, HeadTimeout } from './bulk-connections.ts';
import { isUnknownAuthority } from './endpoint.ts';
import { abortFailure, deadlineFailure, type Subject, transportFailure } from './failure.ts';
import { BadHead } from './http-head.ts';
import { isLoopback } from './reference.ts';

export interface Timeouts {
  /** Until the headers of an answer. */
  headersMs: number;
  /** In this time of waiting for a body at least `minBytes` must come, or its end. */
  readMs: number;
  minBytes: number;
  /** Between the last byte of an upload and its answer: a registry hashes and moves the blob then. */
  commitMs: number;
}

export const defaultTimeouts: Timeouts = {
  headersMs: 30_000,
  readMs: 30_000,
  minBytes: 64 * 1024,
  commitMs: 600_000,
};

export interface HttpRequest {
  method: 'GET' | 'HEAD' | 'POST' | 'PUT';
  url: URL;
  headers: Record<string, string>;
  body?: Uint8Array | Readable;
  signal?: AbortSignal | undefined;
  /** Overrides Timeouts.headersMs. 0: no limit. */
  headersMs?: number;
  /** Of a GET: the body is large, and each part of it is copied before the next one is asked for. */
  bulk?: boolean;
}

export interface HttpResponse {
  status: number;
  headers: IncomingHttpHeaders;
  /** Must be read to its end or dropped with discard(). */
  body: HttpBody;
  /** Where the answer came from, after redirects. */
  url: URL;
}

export interface HttpBody extends AsyncIterable<Buffer> {
  destroy(): void;
}

/** What carries requests. */
export interface Carriers {
  dispatcher: Dispatcher;
  /** For large bodies. */
  bulk?: BulkConnections | undefined;
}

const MAX_REDIRECTS = 5;
/** Headers that are for the registry alone. */
const PRIVATE_HEADERS = ['authorization', 'cookie'];

export class Transport {
  readonly #carriers: Carriers;
  readonly timeouts: Timeouts;
  readonly #privateHeaders: readonly string[];

  /** `ownHeaders`: names, in lower case, of headers that are for the host of a request alone, as Authorization is. */
  constructor(carriers: Carriers, timeouts: Timeouts, ownHeaders: readonly string[] = []) {
    this.#carriers = carriers;
    this.timeouts = timeouts;
    this.#privateHeaders = [...PRIVATE_HEADERS, ...ownHeaders];
  }

  /**
   * Sends a request and, for GET and HEAD, follows redirects. Credentials never reach another origin than the first
   * one, nor come back after a detour over another. Throws unavailable, deadlineExceeded, canceled.
   */
  async send(subject: Subject, wanted: HttpRequest): Promise<HttpResponse> {
    let current = wanted;
    for (let hops = 0; ; hops++) {
      const response = await this.#once(subject, current);
      if (!isRedirect(response.status) || (wanted.method !== 'GET' && wanted.method !== 'HEAD'))
        return response;
      await discard(response);
      if (hops === MAX_REDIRECTS)
        throw transportFailure(subject, `it was redirected more than ${MAX_REDIRECTS} times`);
      const url = redirectUrl(subject, current.url, response);
      current = {
        ...current,
        url,
        headers: headersFor(current.url, url, current.headers, this.#privateHeaders),
      };
    }
  }

  async #once(subject: Subject, wanted: HttpRequest): Promise<HttpResponse> {
    const { signal } = wanted;
    if (signal?.aborted) throw abortFailure(subject, signal);
    const headersMs = wanted.headersMs ?? this.timeouts.headersMs;
    try {
      if (wanted.bulk && this.#carriers.bulk) {
        const { head, body } = await this.#carriers.bulk.get(wanted.url, wanted.headers, headersMs, signal);
        return { status: head.status, headers: head.headers, body, url: wanted.url };
      }
      const answer = await request(wanted.url, {
        dispatcher: this.#carriers.dispatcher,
        method: wanted.method,
        headers: wanted.headers,
        body: wanted.body ?? null,
        signal: signal ?? null,
        headersTimeout: headersMs,
        // readBody has its own, which also catches a body that drips.
        bodyTimeout: 0,
      });
      // An error after the last reader has gone must not end the process.
      answer.body.on('error', () => {});
      return { status: answer.statusCode, headers: answer.headers, body: answer.body, url: wanted.url };
    } catch (cause) {
      if (signal?.aborted) throw abortFailure(subject, signal);
      if (cause instanceof CheckpointError) throw cause;
      if (cause instanceof HeadTimeout || errorCode(cause) === 'UND_ERR_HEADERS_TIMEOUT')
        throw deadlineFailure(subject, headersMs, 'no answer');
      throw transportFailure(subject, explain(cause, wanted.url), cause);
    }
  }

  /**
   * The bytes of an answer as they come. Throws deadlineExceeded if it stalls or drips, unavailable if the connection
   * breaks. Leaving the loop early closes the connection.
   */
  async *readBody(
    subject: Subject,
    response: HttpResponse,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer> {
    const { readMs, minBytes } = this.timeouts;
    const { body } = response;
    const bytes: AsyncIterator<Buffer> = body[Symbol.asyncIterator]();
    let windowBytes = 0;
    let windowMs = 0;
    let stalled = false;
    try {
      while (true) {
        const started = performance.now();
        const timer = setTimeout(
          () => {
            stalled = true;
            body.destroy();
          },
          Math.max(1, readMs - windowMs),
        );
        let next: IteratorResult<Buffer>;
        try {
          next = await bytes.next();
        } finally {
          clearTimeout(timer);
        }
        if (stalled) throw deadlineFailure(subject, readMs, `less than ${minBytes} bytes`);
        if (next.done) return;
        windowMs += performance.now() - started;
        windowBytes += next.value.length;
        if (windowBytes >= minBytes) {
          windowBytes = 0;
          windowMs = 0;
        }
        yield next.value;
      }
    } catch (cause) {
      if (signal?.aborted) throw abortFailure(subject, signal);
      if (stalled) throw deadlineFailure(subject, readMs, `less than ${minBytes} bytes`);
      if (cause instanceof CheckpointError) throw cause;
      throw transportFailure(subject, explain(cause, response.url), cause);
    } finally {
      body.destroy();
    }
  }

  /** A whole small body. Throws resourceExhausted above `maxBytes`. */
  async readSmall(
    subject: Subject,
    response: HttpResponse,
    maxBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const parts: Buffer[] = [];
    let size = 0;
    for await (const part of this.readBody(subject, response, signal)) {
      size += part.length;
      if (size > maxBytes)
        throw new CheckpointError(
          Code.resourceExhausted,
          `Cannot ${subject.action}: registry ${subject.registry} sent more than ${maxBytes} bytes`,
        );
      parts.push(part);
    }
    return Buffer.concat(parts);
  }
}

/** Drops an answer. A short rest is read so that the connection can be used again. */
export async function discard(response: HttpResponse): Promise<void> {
  const { body } = response;
  const length = Number(response.headers['content-length'] ?? Number.NaN);
  if (!(length <= 64 * 1024)) {
    body.destroy();
    return;
  }
  const timer = setTimeout(() => body.destroy(), 1_000);
  try {
    for await (const _ of body);
  } catch {
    // It was to be dropped.
  } finally {
    clearTimeout(timer);
  }
}

function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308;
}

function redirectUrl(subject: Subject, from: URL, response: HttpResponse): URL {
  const location = response.headers.location;
  if (typeof location !== 'string') throw transportFailure(subject, 'it was redirected to nowhere');
  let url: URL;
  try {
    url = new URL(location, from);
  } catch {
    throw transportFailure(subject, 'it was redirected to an address that is not valid');
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw transportFailure(subject, 'it was redirected to something that is not HTTP');
  if (url.protocol === 'http:' && from.protocol === 'https:' && !isLoopback(url.host))
    throw transportFailure(subject, `it was redirected from HTTPS to plain HTTP on ${url.host}`);
  url.username = '';
  url.password = '';
  return url;
}

/** The headers that may go from a request to `from` into one to `to`. */
function headersFor(
  from: URL,
  to: URL,
  headers: Record<string, string>,
  privateHeaders: readonly string[],
): Record<string, string> {
  if (from.origin === to.origin) return headers;
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !privateHeaders.includes(name.toLowerCase())),
  );
}

/** Never the whole URL: the query of a presigned one is a credential. */
function explain(cause: unknown, url: URL): string {
  if (cause instanceof BadHead) return `${url.host} does not speak HTTP/1.1 as it should: ${cause.message}`;
  const code = errorCode(cause);
  if (isUnknownAuthority(code))
    return `the certificate of ${url.host} is not trusted (${code}); name its authority as \`ca\` in hosts.toml`;
  switch (code) {
    case 'ECONNREFUSED':
      return `nothing listens on ${url.host}`;
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `the host name ${url.hostname} is not known`;
    case 'UND_ERR_CONNECT_TIMEOUT':
      return `no connection to ${url.host} within the time limit`;
    default:
      return `the connection to ${url.host} failed (${code ?? 'unknown reason'})`;
  }
}

function errorCode(cause: unknown): string | undefined {
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
}
