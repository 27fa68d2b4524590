/**
 * A client of the Snapshots service that costs next to nothing beside the daemon: one connection, one call at a time, and of
 * an answer only the status is read. grpc-js would take more of the processors than what is measured.
 */
import { connect, type Socket } from 'node:net';
import { Code } from '../../../proto/status.ts';
import {
  encodeHeaders,
  Flag,
  FrameType,
  frame,
  HeaderDecoder,
} from '../../../snapshotter/grpc/http2/index.ts';
import { loadDefinition, SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE } from '../../../snapshotter/grpc/proto-files.ts';
import { frameMessage } from '../../../snapshotter/grpc/wire.ts';
import { BenchError } from '../error.ts';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const HEAD_BYTES = 9;
const EMPTY = Buffer.alloc(0);
/** So much that it is never used up. */
const WINDOW = Buffer.from([0x7f, 0, 0, 0]);

const methods = loadDefinition(SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE);

export interface LeanOptions {
  /** For containerd: which of its snapshotters. */
  snapshotter?: string;
  namespace?: string;
}

export class LeanClient {
  readonly #socket: Socket;
  readonly #snapshotter: string;
  readonly #headers = new Map<string, Buffer>();
  readonly #namespace: string;
  readonly #decoder = new HeaderDecoder();
  #rest: Buffer = EMPTY;
  #lastId = -1;
  #waiting: { resolve: () => void; reject: (error: unknown) => void } | undefined;
  #status = '';

  constructor(path: string, { snapshotter = '', namespace = 'bench' }: LeanOptions = {}) {
    this.#snapshotter = snapshotter;
    this.#namespace = namespace;
    this.#socket = connect(path);
    this.#socket.write(PREFACE);
    this.#socket.write(frame(FrameType.settings, 0, 0, EMPTY));
    this.#socket.write(frame(FrameType.windowUpdate, 0, 0, WINDOW));
    this.#socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    const end = (error?: Error) =>
      this.#waiting?.reject(error ?? new BenchError(Code.unavailable, 'The connection ended'));
    this.#socket.on('error', end);
    this.#socket.on('close', () => end());
  }

  close(): void {
    this.#waiting = undefined;
    this.#socket.destroy();
  }

  prepare(key: string, parent: string, labels: Record<string, string>): Promise<void> {
    return this.#call('Prepare', { key, parent, labels });
  }
  mounts(key: string): Promise<void> {
    return this.#call('Mounts', { key });
  }
  commit(name: string, key: string, labels: Record<string, string>): Promise<void> {
    return this.#call('Commit', { name, key, labels });
  }
  remove(key: string): Promise<void> {
    return this.#call('Remove', { key });
  }

  #call(name: string, request: object): Promise<void> {
    const method = methods[name];
    if (!method) throw new BenchError(Code.internal, `There is no ${name}`);
    const message = method.requestSerialize({ snapshotter: this.#snapshotter, ...request });
    this.#lastId += 2;
    this.#socket.write(
      Buffer.concat([
        frame(FrameType.headers, Flag.endHeaders, this.#lastId, this.#headersOf(method.path)),
        frame(FrameType.data, Flag.endStream, this.#lastId, frameMessage(message)),
      ]),
    );
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** The same bytes for every call. */
  #headersOf(path: string): Buffer {
    let headers = this.#headers.get(path);
    if (!headers) {
      headers = encodeHeaders([
        [':method', 'POST'],
        [':scheme', 'http'],
        [':path', path],
        [':authority', 'localhost'],
        ['te', 'trailers'],
        ['content-type', 'application/grpc'],
        ['containerd-namespace', this.#namespace],
      ]);
      this.#headers.set(path, headers);
    }
    return headers;
  }

  #receive(chunk: Buffer): void {
    const input = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (input.length - at >= HEAD_BYTES) {
      const end = at + HEAD_BYTES + input.readUIntBE(at, 3);
      if (end > input.length) break;
      this.#frame(input[at + 3] ?? 0, input[at + 4] ?? 0, input.subarray(at + HEAD_BYTES, end));
      at = end;
    }
    this.#rest = input.subarray(at);
  }

  #frame(type: number, flags: number, payload: Buffer): void {
    switch (type) {
      case FrameType.settings:
        if (!(flags & Flag.ack)) this.#socket.write(frame(FrameType.settings, Flag.ack, 0, EMPTY));
        break;
      case FrameType.ping:
        if (!(flags & Flag.ack)) this.#socket.write(frame(FrameType.ping, Flag.ack, 0, payload));
        break;
      case FrameType.headers:
        for (const [name, value] of this.#decoder.decode(payload))
          if (name === 'grpc-status' || name === 'grpc-message') this.#status += `${name} ${value} `;
        if (flags & Flag.endStream) this.#answered();
        break;
      default:
      // The messages themselves, and windows.
    }
  }

  #answered(): void {
    const status = this.#status;
    const waiting = this.#waiting;
    this.#status = '';
    this.#waiting = undefined;
    if (status.startsWith('grpc-status 0 ')) waiting?.resolve();
    else waiting?.reject(new BenchError(Code.unknown, `A call failed: ${status}`));
  }
}
