/** A connection, byte by byte: what clients may do and hardly one does, and what none may. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Connection } from './connection.ts';
import { ErrorCode, Flag, FrameType, frame } from './frames.ts';
import { encodeHeaders, HeaderDecoder } from './hpack.ts';
import type { Stream } from './stream.ts';

const MAX_BODY = 100_000;
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const EMPTY = Buffer.alloc(0);
const REQUEST = encodeHeaders([[':path', '/x']]);
const OK = encodeHeaders([[':status', '200']]);
const TRAILERS = encodeHeaders([['grpc-status', '0']]);

let dir: string;
let server: Server;
let client: Socket;
let connection: Connection;
let errors: string[];
let onRequest: (stream: Stream, body: Buffer | undefined) => void;
let received: { type: number; flags: number; id: number; payload: Buffer }[];
let bytes: Buffer;

/** Sends the request's body back. */
const echo = (stream: Stream, body: Buffer | undefined) => {
  stream.headers(OK);
  stream.data(body ?? Buffer.from('too much'));
  stream.end(TRAILERS);
};

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-http2-'));
  [errors, received, bytes, onRequest] = [[], [], EMPTY, echo];
  server = createServer((socket) => {
    connection = new Connection(socket, MAX_BODY, {
      onRequest: (stream, body) => onRequest(stream, body),
      onError: (error) => errors.push(error.message),
      onClosed: () => {},
    });
  }).listen(join(dir, 's'));
  await once(server, 'listening');
  client = connect(join(dir, 's'));
  client.on('error', () => {});
  client.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
      const end = 9 + bytes.readUIntBE(0, 3);
      const [type = 0, flags = 0] = bytes.subarray(3, 5);
      received.push({ type, flags, id: bytes.readUInt32BE(5), payload: bytes.subarray(9, end) });
      bytes = bytes.subarray(end);
    }
  });
  await once(client, 'connect');
});
afterEach(async () => {
  client.destroy();
  server.close();
  await once(server, 'close');
  rmSync(dir, { recursive: true });
});

const number = (value: number) => Buffer.from(Uint32Array.of(value).buffer).reverse();
const setting = (id: number, value: number) => Buffer.concat([Buffer.from([0, id]), number(value)]);
const settings = (...values: Buffer[]) => frame(FrameType.settings, 0, 0, Buffer.concat(values));
const window = (id: number, more: number) => frame(FrameType.windowUpdate, 0, id, number(more));
const headers = (id: number, flags = Flag.endHeaders as number, block = REQUEST) =>
  frame(FrameType.headers, flags, id, block);
const data = (id: number, text: string | Buffer, flags: number = Flag.endStream) =>
  frame(FrameType.data, flags, id, Buffer.from(text));
const of = (type: number) => received.filter((one) => one.type === type);
const answerOf = (id: number) => {
  const frames = received.filter((one) => one.id === id);
  return {
    body: Buffer.concat(frames.filter(({ type }) => type === FrameType.data).map(({ payload }) => payload)),
    ended: frames.some(({ flags, type }) => type === FrameType.headers && flags & Flag.endStream),
  };
};
const answered = (id: number, body: string | Buffer) =>
  expect.poll(() => answerOf(id)).toEqual({ body: Buffer.from(body), ended: true });
const greet = (...values: Buffer[]) => client.write(Buffer.concat([PREFACE, settings(...values)]));

test('bytes that come one by one are the same frames', async () => {
  const sent = Buffer.concat([PREFACE, settings(), headers(1), data(1, 'hello')]);
  for (const byte of sent) {
    client.write(Buffer.from([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await answered(1, 'hello');
  expect(of(FrameType.settings).map(({ flags }) => flags)).toEqual([0, Flag.ack]);
});

test('padding, priorities, headers in pieces, trailers and unknown frames are understood', async () => {
  greet();
  const padded = Buffer.concat([Buffer.from([3]), number(0), Buffer.from([7]), REQUEST, Buffer.alloc(3)]);
  client.write(
    Buffer.concat([
      headers(1, Flag.padded | Flag.priority, padded.subarray(0, 6)).fill(0, 9, 10),
      frame(FrameType.continuation, 0, 1, REQUEST.subarray(0, 2)),
      frame(FrameType.continuation, Flag.endHeaders, 1, REQUEST.subarray(2)),
      frame(FrameType.priority, 0, 1, Buffer.alloc(5)),
      frame(0x42, 0xff, 1, Buffer.from('?')),
      data(1, Buffer.from('\x02hi\0\0', 'latin1'), Flag.padded),
      data(1, ' there', 0),
      headers(1, Flag.endHeaders | Flag.endStream),
    ]),
  );
  await answered(1, 'hi there');
  client.write(headers(3, Flag.padded | Flag.priority | Flag.endHeaders | Flag.endStream, padded));
  await answered(3, '');
  expect(errors).toEqual([]);
});

test('a ping comes back', async () => {
  greet();
  client.write(frame(FrameType.ping, 0, 0, Buffer.from('12345678')));
  await expect
    .poll(() => of(FrameType.ping))
    .toMatchObject([{ flags: Flag.ack, payload: Buffer.from('12345678') }]);
});

test('no more is sent than the windows of stream and connection allow', async () => {
  greet(setting(4, 10));
  client.write(Buffer.concat([headers(1), data(1, 'x'.repeat(30))]));
  await expect.poll(() => answerOf(1).body.length).toBe(10);
  client.write(window(1, 5));
  await expect.poll(() => answerOf(1).body.length).toBe(15);
  // For streams that there are, too.
  client.write(settings(setting(4, 20)));
  await expect.poll(() => answerOf(1).body.length).toBe(25);
  client.write(window(1, 100));
  await answered(1, 'x'.repeat(30));
  // What is left of the connection's 65,535.
  client.write(settings(setting(4, 1_000_000)));
  client.write(
    Buffer.concat([
      headers(3),
      ...Array.from({ length: 9 }, () => data(3, Buffer.alloc(10_000), 0)),
      data(3, ''),
    ]),
  );
  await expect.poll(() => answerOf(3).body.length).toBe(65_535 - 30);
  client.write(Buffer.concat([headers(5), data(5, 'y')]));
  client.write(window(0, 1_000_000));
  await answered(3, Buffer.alloc(90_000));
  await answered(5, 'y');
  expect(Math.max(...of(FrameType.data).map(({ payload }) => payload.length))).toBe(16_384);
});

test('headers that are longer than a frame go on in others', async () => {
  const long = 'x'.repeat(40_000);
  onRequest = (stream) => stream.end(encodeHeaders([['long', long]]));
  greet();
  client.write(headers(1, Flag.endHeaders | Flag.endStream));
  await expect.poll(() => of(FrameType.continuation).map(({ flags }) => flags)).toEqual([0, Flag.endHeaders]);
  const parts = received.filter(({ id }) => id === 1).map(({ payload }) => payload);
  expect(new HeaderDecoder().decode(Buffer.concat(parts))).toEqual([['long', long]]);
});

test('a request that is too large is not kept, and the connection goes on', async () => {
  greet();
  const parts = Array.from({ length: 11 }, () => data(1, Buffer.alloc(10_000), 0));
  client.write(Buffer.concat([headers(1), ...parts, data(1, 'end'), headers(3), data(3, 'next')]));
  await answered(1, 'too much');
  await answered(3, 'next');
});

test('a client that gives up a call is noticed, and what comes late for it is no mistake', async () => {
  const begun = Promise.withResolvers<Stream>();
  onRequest = (stream) => begun.resolve(stream);
  greet();
  client.write(Buffer.concat([headers(1), data(1, 'x')]));
  const stream = await begun.promise;
  const closed = new Promise<void>((resolve) => stream.watch(() => stream.closed && resolve()));
  client.write(frame(FrameType.reset, 0, 1, number(8)));
  await closed;
  echo(stream, EMPTY);
  onRequest = echo;
  client.write(Buffer.concat([window(1, 5), data(1, 'late'), headers(3), data(3, 'on')]));
  await answered(3, 'on');
  expect(answerOf(1)).toEqual({ body: EMPTY, ended: false });
  expect(errors).toEqual([]);
});

test('an end that is told lets calls finish, and takes no others', async () => {
  const begun = Promise.withResolvers<Stream>();
  onRequest = (stream) => begun.resolve(stream);
  greet();
  client.write(Buffer.concat([headers(1), data(1, 'x')]));
  const stream = await begun.promise;
  connection.close();
  await expect
    .poll(() => of(FrameType.goAway).map(({ payload }) => [...payload]))
    .toEqual([[0, 0, 0, 1, 0, 0, 0, 0]]);
  client.write(Buffer.concat([headers(3), data(3, 'x'), window(3, 1)]));
  const ended = once(client, 'close');
  await new Promise((resolve) => setTimeout(resolve, 20));
  echo(stream, Buffer.from('done'));
  await ended;
  expect(answerOf(1)).toEqual({ body: Buffer.from('done'), ended: true });
  expect(answerOf(3)).toEqual({ body: EMPTY, ended: false });
  expect(errors).toEqual([]);
});

const greeting = Buffer.concat([PREFACE, settings()]);
test.each([
  ['no HTTP/2', Buffer.from('GET / HTTP/1.1\r\n\r\n'), ErrorCode.protocol],
  ['a frame that is too long', Buffer.concat([greeting, data(1, Buffer.alloc(16_385))]), ErrorCode.frameSize],
  ['data of no call', Buffer.concat([greeting, data(1, 'x')]), ErrorCode.protocol],
  ["a server's stream", Buffer.concat([greeting, headers(2)]), ErrorCode.protocol],
  ['headers within headers', Buffer.concat([greeting, headers(1, 0), headers(1)]), ErrorCode.protocol],
  [
    'headers that go on of none',
    Buffer.concat([greeting, frame(FrameType.continuation, 4, 1, REQUEST)]),
    ErrorCode.protocol,
  ],
  [
    'headers without an end',
    Buffer.concat([
      greeting,
      headers(1, 0),
      ...Array.from({ length: 5 }, () => frame(FrameType.continuation, 0, 1, Buffer.alloc(16_384))),
    ]),
    ErrorCode.enhanceYourCalm,
  ],
  [
    'headers that cannot be read',
    Buffer.concat([greeting, headers(1, 4, Buffer.from([0xff, 0xff]))]),
    ErrorCode.compression,
  ],
  [
    'more padding than bytes',
    Buffer.concat([greeting, headers(1), data(1, Buffer.from([9, 1]), Flag.padded)]),
    ErrorCode.protocol,
  ],
  ['a push', Buffer.concat([greeting, frame(FrameType.pushPromise, 4, 1, EMPTY)]), ErrorCode.protocol],
  [
    'half a setting',
    Buffer.concat([greeting, frame(FrameType.settings, 0, 0, Buffer.alloc(5))]),
    ErrorCode.frameSize,
  ],
  [
    'half a ping',
    Buffer.concat([greeting, frame(FrameType.ping, 0, 0, Buffer.alloc(4))]),
    ErrorCode.frameSize,
  ],
  [
    'half a reset',
    Buffer.concat([greeting, headers(1), frame(FrameType.reset, 0, 1, Buffer.alloc(3))]),
    ErrorCode.frameSize,
  ],
  [
    'half a window',
    Buffer.concat([greeting, frame(FrameType.windowUpdate, 0, 0, Buffer.alloc(3))]),
    ErrorCode.frameSize,
  ],
  ['a window that grows by nothing', Buffer.concat([greeting, window(0, 0)]), ErrorCode.protocol],
  ['a connection that is too wide', Buffer.concat([greeting, window(0, 0x7fff_ffff)]), ErrorCode.flowControl],
  [
    'a stream that is too wide',
    Buffer.concat([greeting, headers(1), window(1, 0x7fff_ffff)]),
    ErrorCode.flowControl,
  ],
  [
    'streams that are too wide',
    Buffer.concat([greeting, settings(setting(4, 0x8000_0000))]),
    ErrorCode.flowControl,
  ],
  ['frames that are too short', Buffer.concat([greeting, settings(setting(5, 100))]), ErrorCode.frameSize],
])('%s ends the connection, with the reason', async (_, sent, code) => {
  // Also where it cannot write any more.
  const ended = new Promise<void>((resolve) => client.once('close', () => resolve()));
  client.write(sent);
  await ended;
  expect(of(FrameType.goAway).map(({ payload }) => payload.readUInt32BE(4))).toEqual([code]);
  expect(errors).toEqual([expect.stringContaining("Cannot go on with a client's connection")]);
});
