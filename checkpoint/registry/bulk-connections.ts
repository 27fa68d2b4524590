/**
 * Connections for large bodies. A general client hands every 64 KiB from its parser through streams: 2.8 s of processor time
 * a GiB where this takes 0.8 (docs/architecture.md). Here a body lands in a few buffers that are used again and
 * again, as HTTP/1.1 and nothing else.
 */
import type { Socket } from 'node:net';
import type { buildConnector } from 'undici';
import { ChunkedDecoder } from './chunked.ts';
import { BadHead, parseResponseHead, type ResponseHead, requestHead } from './http-head.ts';
import { Landing } from './landing.ts';

export interface BulkResponse {
  head: ResponseHead;
  /** A part is valid until the next one is asked for. Must be read to its end or destroyed. */
  body: BulkBody;
}

export interface BulkBody extends AsyncIterable<Buffer> {
  /** Ends the transfer; a connection whose body has come in full is kept. */
  destroy(): void;
}

/** How bytes are taken from a socket. Source: Node's net.Socket, option `onread`. */
export interface OnRead {
  buffer: () => Buffer;
  callback: (bytes: number) => boolean;
}

/** Opens connections whose bytes go to `onread`. */
export type BulkConnector = (onread: OnRead) => buildConnector.connector;

const BUFFER_BYTES = 192 * 1024;
/** Servers keep a connection for five seconds and more. */
const IDLE_MS = 4_000;
const MAX_IDLE = 16;

export class HeadTimeout extends Error {}

/** The server closed the connection in order. */
class ConnectionEnd extends Error {
  readonly code = 'ECONNRESET';
}

export class BulkConnections {
  readonly #connector: BulkConnector;
  /** By origin. */
  readonly #idle = new Map<string, Connection[]>();
  readonly #all = new Set<Connection>();

  constructor(connector: BulkConnector) {
    this.#connector = connector;
  }

  /** Ends all, also those in use. */
  close(): void {
    for (const connection of this.#all) connection.destroy();
  }

  /** Throws HeadTimeout, BadHead, or what broke the connection; the caller knows whether that was its own signal. */
  async get(
    url: URL,
    headers: Readonly<Record<string, string>>,
    headersMs: number,
    signal: AbortSignal | undefined,
  ): Promise<BulkResponse> {
    const request = requestHead(url, headers);
    for (;;) {
      const kept = this.#idle.get(url.origin)?.pop();
      const connection = kept ?? new Connection(this.#connector, url);
      this.#all.add(connection);
      connection.onGone = () => this.#forget(connection, url.origin);
      const use = new Use(connection, headersMs, signal);
      try {
        const head = await use.ask(request);
        use.headCame();
        return { head, body: new Body(use, head, () => this.#keep(connection, url.origin, head)) };
      } catch (error) {
        use.end(false);
        // A server may end a kept connection at any time, also while it is being asked.
        if (kept && !connection.hasAnswered && !signal?.aborted && !(error instanceof HeadTimeout)) continue;
        throw error;
      }
    }
  }

  #keep(connection: Connection, origin: string, head: ResponseHead): void {
    const idle = this.#idle.get(origin) ?? [];
    if (!head.keepAlive || idle.length >= MAX_IDLE || !connection.rest()) {
      connection.destroy();
      return;
    }
    idle.push(connection);
    this.#idle.set(origin, idle);
  }

  #forget(connection: Connection, origin: string): void {
    this.#all.delete(connection);
    const idle = this.#idle.get(origin);
    const at = idle?.indexOf(connection) ?? -1;
    if (at >= 0) idle?.splice(at, 1);
  }
}

/** One socket and what has come from it. */
class Connection {
  readonly #landing = new Landing(BUFFER_BYTES);
  readonly #opened: Promise<Socket>;
  #socket: Socket | undefined;
  #idle: NodeJS.Timeout | undefined;
  /** Why no more comes; its own end is a reason too. */
  #over: Error | undefined;
  #wake: (() => void) | undefined;
  #left: Buffer | undefined;
  hasAnswered = false;
  onGone: () => void = () => {};

  constructor(connector: BulkConnector, url: URL) {
    const connect = connector({
      buffer: () => this.#landing.space,
      callback: (bytes) => {
        this.hasAnswered = true;
        this.#landing.landed(bytes);
        if (this.#idle) this.destroy(new Error('the server sent what nobody asked for'));
        this.#wake?.();
        return !this.#landing.blocked;
      },
    });
    this.#opened = new Promise((resolve, reject) => {
      const { hostname, host, protocol } = url;
      const port = url.port || (protocol === 'https:' ? '443' : '80');
      connect({ hostname, host, protocol, port }, (error, socket) => {
        if (error) reject(error);
        else if (this.#over) {
          socket.destroy();
          reject(this.#over);
        } else resolve(this.#watch(socket));
      });
    });
    this.#opened.catch((error: Error) => this.destroy(error));
  }

  #watch(socket: Socket): Socket {
    this.#socket = socket;
    socket.on('error', (error) => this.destroy(error));
    socket.on('end', () => this.destroy(new ConnectionEnd('closed')));
    socket.on('close', () => this.destroy(Object.assign(new Error('closed'), { code: 'ECONNRESET' })));
    return socket;
  }

  async write(text: string): Promise<void> {
    this.hasAnswered = false;
    clearTimeout(this.#idle);
    this.#idle = undefined;
    (await this.#opened).write(text);
  }

  /** The next bytes, valid until it is asked again. Those that came before an end are still given. */
  async next(): Promise<Buffer> {
    for (;;) {
      const left = this.#left;
      this.#left = undefined;
      if (left) return left;
      const wasBlocked = this.#landing.blocked;
      const part = this.#landing.take();
      if (wasBlocked && !this.#landing.blocked) this.#socket?.resume();
      if (part) return part;
      if (this.#over) throw this.#over;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  /** Gives the end of the part that `next` gave last back. */
  putBack(rest: Buffer): void {
    this.#left = rest.length > 0 ? rest : undefined;
  }

  /** False if it cannot wait for another request: it has ended, or sent more than its answer. */
  rest(): boolean {
    if (this.#over || this.#left || this.#landing.take()) return false;
    this.#idle = setTimeout(() => this.destroy(), IDLE_MS);
    this.#idle.unref();
    return true;
  }

  destroy(why: Error = new Error('ended')): void {
    this.#over ??= why;
    clearTimeout(this.#idle);
    this.#socket?.destroy();
    this.#wake?.();
    this.onGone();
  }
}

/** One request's use of a connection, ended by its signal or by its deadline until the head has come. */
class Use {
  readonly #connection: Connection;
  readonly #signal: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort = () => this.#connection.destroy(this.#signal?.reason);

  constructor(connection: Connection, headersMs: number, signal: AbortSignal | undefined) {
    this.#connection = connection;
    this.#signal = signal;
    this.#timer = setTimeout(() => connection.destroy(new HeadTimeout('no answer')), headersMs || 2 ** 30);
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
  }

  async ask(request: string): Promise<ResponseHead> {
    await this.#connection.write(request);
    for (let bytes = Buffer.alloc(0); ; ) {
      // Copied, as a head is short and its parts may come one by one.
      const part = await this.#connection.next();
      bytes = Buffer.concat([bytes, part]);
      for (let head = parseResponseHead(bytes); head; head = parseResponseHead(bytes)) {
        if (head.status === 101) throw new BadHead('the answer changes the protocol');
        const rest = bytes.subarray(head.end);
        if (head.status < 200) {
          bytes = rest;
          continue;
        }
        // The head ends in this part, or it would have been seen before.
        this.#connection.putBack(part.subarray(part.length - rest.length));
        return head;
      }
    }
  }

  next(): Promise<Buffer> {
    return this.#connection.next();
  }

  putBack(rest: Buffer): void {
    this.#connection.putBack(rest);
  }

  headCame(): void {
    clearTimeout(this.#timer);
  }

  /** `keep`: the connection goes on, with somebody else. */
  end(keep: boolean): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener('abort', this.#onAbort);
    if (!keep) this.#connection.destroy();
  }
}

class Body implements BulkBody {
  readonly #use: Use;
  readonly #keep: () => void;
  readonly #head: ResponseHead;
  #isWhole = false;
  #ended = false;

  constructor(use: Use, head: ResponseHead, keep: () => void) {
    this.#use = use;
    this.#head = head;
    this.#keep = keep;
    if (head.body.kind === 'length') this.#isWhole = head.body.length === 0;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    const { body } = this.#head;
    try {
      switch (body.kind) {
        case 'length':
          yield* this.#ofLength(body.length);
          return;
        case 'chunked':
          yield* this.#chunked();
          return;
        case 'connection':
          yield* this.#toTheEnd();
          return;
        default:
          body satisfies never;
      }
    } finally {
      this.destroy();
    }
  }

  destroy(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#use.end(this.#isWhole);
    if (this.#isWhole) this.#keep();
  }

  async *#ofLength(length: number): AsyncGenerator<Buffer> {
    for (let left = length; left > 0 && !this.#ended; ) {
      const part = await this.#use.next();
      // What is too much makes the connection useless for another request.
      if (part.length > left) this.#use.putBack(part.subarray(left));
      const wanted = part.subarray(0, left);
      left -= wanted.length;
      this.#isWhole = left === 0;
      yield wanted;
    }
  }

  async *#chunked(): AsyncGenerator<Buffer> {
    const decoder = new ChunkedDecoder();
    while (!decoder.isDone && !this.#ended) yield* decoder.decode(await this.#use.next());
    this.#isWhole = true;
  }

  async *#toTheEnd(): AsyncGenerator<Buffer> {
    while (!this.#ended) {
      const part = await this.#use.next().catch((error: unknown) => {
        if (error instanceof ConnectionEnd) return undefined;
        throw error;
      });
      if (!part) return;
      yield part;
    }
  }
}
