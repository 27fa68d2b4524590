import { expect, test } from 'vitest';
import { native } from './index.ts';

test('what is no HTTP/2 is an error, and the connection is of no use any more', () => {
  const connection = native.http2Open(1_000);
  const refused = { code: 'EPROTO', syscall: 'nghttp2_session_mem_recv' };
  expect(() => native.http2Receive(connection, Buffer.from('GET / HTTP/1.1\r\n\r\n'))).toThrow(
    expect.objectContaining(refused),
  );
});

test('a server says its settings first, and then nothing', () => {
  const connection = native.http2Open(1_000);
  // Source: RFC 9113, 6.5: length, type 4, no flags, stream 0.
  expect(native.http2Take(connection)).toEqual(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  expect(native.http2Take(connection)).toBeUndefined();
  expect(native.http2Streams(connection)).toBe(0);
});

test('an answer to a stream that is not there is dropped', () => {
  const connection = native.http2Open(1_000);
  native.http2Take(connection);
  native.http2Answer(connection, 1, [':status', '200'], Buffer.from('x'), ['grpc-status', '0']);
  expect(native.http2Queued(connection, 1)).toBe(0);
  expect(native.http2Take(connection)).toBeUndefined();
});

test('wrong arguments are errors', () => {
  const connection = native.http2Open(1_000);
  expect(() => native.http2Take({} as typeof connection)).toThrow(TypeError);
  expect(() => native.http2Answer(connection, 0, [], undefined, [])).toThrow(TypeError);
  expect(() => native.http2Receive(connection, 'x' as unknown as Uint8Array)).toThrow(TypeError);
});
