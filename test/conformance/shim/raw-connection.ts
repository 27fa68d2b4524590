/** ttrpc frame by frame, for what no well-behaved client sends. */
import { connect, type Socket } from 'node:net';
import { ttrpc } from '../../../proto/gen/ttrpc.js';
import { type DecodedFrame, encodeFrame, FrameDecoder, FrameType } from '../../../proto/ttrpc/frame.ts';
import { decodeResponse, encodeRequest } from '../../../proto/ttrpc/message.ts';
import { until } from '../../lib/index.ts';

export interface RawAnswer {
  stream: number;
  /** 0 for success. */
  code: number;
  message: string;
}

export class RawConnection {
  readonly #socket: Socket;
  readonly #frames: DecodedFrame[] = [];
  closed = false;

  constructor(path: string) {
    const decoder = new FrameDecoder();
    this.#socket = connect({ path });
    this.#socket.on('data', (chunk: Buffer) => this.#frames.push(...decoder.push(chunk)));
    this.#socket.on('error', () => {});
    this.#socket.once('close', () => {
      this.closed = true;
    });
  }

  send(stream: number, type: number, data: Uint8Array, flags = 0): void {
    this.#socket.write(encodeFrame(stream, type, flags, data));
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  request(stream: number, service: string, method: string, payload: Uint8Array, timeoutMs?: number): void {
    this.send(
      stream,
      FrameType.request,
      encodeRequest({ service, method, payload, timeoutMs, metadata: {} }),
    );
  }

  /** With a deadline in nanoseconds as it stands in the frame, a negative one included. */
  requestNano(
    stream: number,
    service: string,
    method: string,
    payload: Uint8Array,
    timeoutNano: number,
  ): void {
    this.send(
      stream,
      FrameType.request,
      ttrpc.Request.encode({ service, method, payload, timeoutNano }).finish(),
    );
  }

  /** The answer on a stream. */
  answer(stream: number, ms = 10_000): Promise<RawAnswer> {
    return until(
      `an answer on stream ${stream}`,
      () => {
        const frame = this.#frames.find((f) => f.stream === stream && f.type === FrameType.response);
        if (frame?.kind !== 'frame') return undefined;
        this.#frames.splice(this.#frames.indexOf(frame), 1);
        const response = decodeResponse(frame.data);
        return response.kind === 'ok' ? { stream, code: 0, message: '' } : { stream, ...response.status };
      },
      ms,
    );
  }

  close(): void {
    this.#socket.destroy();
  }
}
