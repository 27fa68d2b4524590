/**
 * A client's connection: frames in and out, its windows, and the streams of its calls. Source: RFC 9113. Whoever may
 * connect is root: what a connection holds is not bounded, so that no call of many is refused.
 */
import type { Socket } from 'node:net';
import {
  DEFAULT_FRAME,
  DEFAULT_WINDOW,
  ErrorCode,
  Flag,
  FrameType,
  frame,
  HEAD_BYTES,
  Http2Error,
  MAX_WINDOW,
  Setting,
  unpadded,
} from './frames.ts';
import { HeaderDecoder } from './hpack.ts';
import { type Outlet, Stream } from './stream.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const EMPTY = Buffer.alloc(0);
/** A client may send requests of any length at once; they are counted where they are kept. */
const WINDOW_SETTING = Buffer.alloc(6);
WINDOW_SETTING.writeUInt16BE(Setting.initialWindow, 0);
WINDOW_SETTING.writeUInt32BE(MAX_WINDOW, 2);
/** Of data, after which the client's window is filled up. */
const WINDOW_STEP = 1 << 30;
const MAX_HEADERS = 1 << 16;
const PRIORITY_BYTES = 5;

export interface ConnectionEvents {
  /** A client sent all of a request; `body` is undefined where that is more than `maxBody`. */
  onRequest: (stream: Stream, body: Buffer | undefined) => void;
  /** It broke, or the client sent what it must not. */
  onError: (error: Error) => void;
  onClosed: () => void;
}

export class Connection implements Outlet {
  window = DEFAULT_WINDOW;
  #maxFrame = DEFAULT_FRAME;
  #streamWindow = DEFAULT_WINDOW;
  readonly #socket: Socket;
  readonly #maxBody: number;
  readonly #events: ConnectionEvents;
  readonly #streams = new Map<number, Stream>();
  readonly #decoder = new HeaderDecoder();
  #greeted = false;
  /** The beginning of a frame. */
  #rest: Buffer = EMPTY;
  /** Headers that go on in further frames. */
  #block: { id: number; flags: number; parts: Buffer[]; size: number } | undefined;
  #lastId = 0;
  #taken = 0;
  #closing = false;
  #out: Buffer[] = [];

  constructor(socket: Socket, maxBody: number, events: ConnectionEvents) {
    this.#socket = socket;
    this.#maxBody = maxBody;
    this.#events = events;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('drain', () => {
      for (const stream of [...this.#streams.values()]) stream.changed();
    });
    socket.on('error', events.onError);
    socket.on('close', () => {
      for (const stream of this.#streams.values()) stream.close();
      this.#streams.clear();
      events.onClosed();
    });
    this.write(frame(FrameType.settings, 0, 0, WINDOW_SETTING));
    this.#widen(MAX_WINDOW - DEFAULT_WINDOW);
  }

  get maxFrame(): number {
    return this.#maxFrame;
  }

  get full(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** Goes out at the end of this turn of the event loop, together with what else there is by then. */
  write(frames: Buffer): void {
    if (this.#out.push(frames) === 1) process.nextTick(() => this.#flush());
  }

  ended(stream: Stream): void {
    // A client may send on; who knows the stream then sees that it is closed.
    if (stream.received) this.#forget(stream.id);
  }

  /** Takes no new calls, and ends with the last one. The client begins again elsewhere what came after those. */
  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#goAway(ErrorCode.none);
    this.#endIfIdle();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    // It is over already.
    if (!this.#socket.writable) return;
    const input = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    try {
      this.#rest = input.subarray(this.#frames(input, this.#greet(input)));
    } catch (error) {
      if (!(error instanceof Http2Error)) throw error;
      this.#events.onError(error);
      this.#goAway(error.code);
      this.#flush();
      this.#socket.destroySoon();
    }
  }

  /** Answers where the frames begin; nowhere yet where the client has not said all of its greeting. */
  #greet(input: Buffer): number {
    if (this.#greeted) return 0;
    const known = Math.min(input.length, PREFACE.length);
    if (input.compare(PREFACE, 0, known, 0, known) !== 0)
      throw new Http2Error(ErrorCode.protocol, 'it does not speak HTTP/2');
    this.#greeted = known === PREFACE.length;
    return this.#greeted ? known : 0;
  }

  /** Answers where the first one begins that is not complete. */
  #frames(input: Buffer, start: number): number {
    let at = start;
    while (this.#greeted && input.length - at >= HEAD_BYTES && this.#socket.writable) {
      const length = input.readUIntBE(at, 3);
      if (length > DEFAULT_FRAME) throw new Http2Error(ErrorCode.frameSize, 'a frame is too long');
      const end = at + HEAD_BYTES + length;
      if (end > input.length) break;
      const id = input.readUInt32BE(at + 5) & 0x7fff_ffff;
      this.#frame(input[at + 3] ?? 0, input[at + 4] ?? 0, id, input.subarray(at + HEAD_BYTES, end));
      at = end;
    }
    return at;
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    if (this.#block && type !== FrameType.continuation)
      throw new Http2Error(ErrorCode.protocol, 'headers are not gone on with');
    switch (type) {
      case FrameType.data:
        this.#data(flags, id, payload);
        break;
      case FrameType.headers:
        this.#beginHeaders(flags, id, payload);
        break;
      case FrameType.continuation:
        this.#continueHeaders(flags, id, payload);
        break;
      case FrameType.reset:
        if (payload.length !== 4) throw wrongLength();
        this.#streams.get(id)?.close();
        this.#forget(id);
        break;
      case FrameType.settings:
        this.#settings(flags, payload);
        break;
      case FrameType.ping:
        if (payload.length !== 8) throw wrongLength();
        if (!(flags & Flag.ack)) this.write(frame(FrameType.ping, Flag.ack, 0, payload));
        break;
      case FrameType.windowUpdate:
        this.#windowUpdate(id, payload);
        break;
      case FrameType.pushPromise:
        throw new Http2Error(ErrorCode.protocol, 'a client has nothing to push');
      default:
      // Priorities, the client's own farewell, and what later versions may know.
    }
  }

  #data(flags: number, id: number, payload: Buffer): void {
    this.#taken += payload.length;
    if (this.#taken >= WINDOW_STEP) {
      this.#widen(this.#taken);
      this.#taken = 0;
    }
    const stream = this.#streams.get(id);
    if (!stream) {
      this.#refuseUnbegun(id);
      return;
    }
    stream.receive(unpadded(flags, payload), this.#maxBody);
    if (flags & Flag.endStream) this.#complete(stream);
  }

  #beginHeaders(flags: number, id: number, payload: Buffer): void {
    const block = unpadded(flags, payload).subarray(flags & Flag.priority ? PRIORITY_BYTES : 0);
    this.#block = { id, flags, parts: [], size: 0 };
    this.#continueHeaders(flags, id, block);
  }

  #continueHeaders(flags: number, id: number, part: Buffer): void {
    const block = this.#block;
    if (block?.id !== id) throw new Http2Error(ErrorCode.protocol, 'headers go on that did not begin');
    block.parts.push(part);
    block.size += part.length;
    if (block.size > MAX_HEADERS) throw new Http2Error(ErrorCode.enhanceYourCalm, 'headers are too long');
    if (!(flags & Flag.endHeaders)) return;
    this.#block = undefined;
    this.#headers(id, block.flags, block.parts.length === 1 ? part : Buffer.concat(block.parts));
  }

  #headers(id: number, flags: number, block: Buffer): void {
    // Also where nobody wants them: later ones may refer to them.
    const fields = this.#decoder.decode(block);
    let stream = this.#streams.get(id);
    if (!stream) {
      if (id <= this.#lastId || this.#closing) return;
      if (id % 2 === 0) throw new Http2Error(ErrorCode.protocol, 'a client has odd streams only');
      this.#lastId = id;
      stream = new Stream(id, fields, this.#streamWindow, this);
      this.#streams.set(id, stream);
    }
    if (flags & Flag.endStream) this.#complete(stream);
  }

  #complete(stream: Stream): void {
    const body = stream.take(this.#maxBody);
    if (stream.closed) this.#forget(stream.id);
    else this.#events.onRequest(stream, body);
  }

  #settings(flags: number, payload: Buffer): void {
    if (flags & Flag.ack) return;
    if (payload.length % 6 !== 0) throw wrongLength();
    for (let at = 0; at < payload.length; at += 6) {
      const value = payload.readUInt32BE(at + 2);
      switch (payload.readUInt16BE(at)) {
        case Setting.initialWindow: {
          if (value > MAX_WINDOW) throw tooWide();
          const more = value - this.#streamWindow;
          this.#streamWindow = value;
          for (const stream of this.#streams.values()) if (stream.widen(more) > MAX_WINDOW) throw tooWide();
          break;
        }
        case Setting.maxFrame:
          if (value < DEFAULT_FRAME || value > 0xff_ffff) throw wrongLength();
          this.#maxFrame = value;
          break;
        default:
        // Of the client's table for our headers: we use none.
      }
    }
    this.write(frame(FrameType.settings, Flag.ack, 0, EMPTY));
    this.#pump();
  }

  #windowUpdate(id: number, payload: Buffer): void {
    if (payload.length !== 4) throw wrongLength();
    const more = payload.readUInt32BE(0) & 0x7fff_ffff;
    if (more === 0) throw new Http2Error(ErrorCode.protocol, 'a window grows by nothing');
    if (id === 0) {
      this.window += more;
      if (this.window > MAX_WINDOW) throw tooWide();
      this.#pump();
      return;
    }
    const stream = this.#streams.get(id);
    if (!stream) {
      this.#refuseUnbegun(id);
      return;
    }
    if (stream.widen(more) > MAX_WINDOW) throw tooWide();
    stream.pump();
  }

  #pump(): void {
    for (const stream of [...this.#streams.values()]) stream.pump();
  }

  /** What comes for a stream that has ended is late, and no mistake. */
  #refuseUnbegun(id: number): void {
    if (id === 0 || (id > this.#lastId && !this.#closing))
      throw new Http2Error(ErrorCode.protocol, 'a frame is of a stream that did not begin');
  }

  #forget(id: number): void {
    this.#streams.delete(id);
    this.#endIfIdle();
  }

  #endIfIdle(): void {
    if (!this.#closing || this.#streams.size > 0) return;
    this.#flush();
    this.#socket.destroySoon();
  }

  #widen(bytes: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(bytes);
    this.write(frame(FrameType.windowUpdate, 0, 0, payload));
  }

  #goAway(code: number): void {
    const payload = Buffer.alloc(8);
    payload.writeUInt32BE(this.#lastId, 0);
    payload.writeUInt32BE(code, 4);
    this.write(frame(FrameType.goAway, 0, 0, payload));
  }

  #flush(): void {
    const [first, ...more] = this.#out.splice(0);
    if (!first || !this.#socket.writable) return;
    this.#socket.write(more.length === 0 ? first : Buffer.concat([first, ...more]));
  }
}

function wrongLength(): Http2Error {
  return new Http2Error(ErrorCode.frameSize, 'a frame has the wrong length');
}

function tooWide(): Http2Error {
  return new Http2Error(ErrorCode.flowControl, 'a window is too wide');
}
