import { expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';
import {
  encodeDetails,
  ForwardedError,
  failureHeaders,
  frameMessage,
  readMessage,
  timeoutMs,
} from './wire.ts';

test('a message is what its prefix says', () => {
  const message = Buffer.from('message');
  expect(frameMessage(message).toString('latin1')).toBe('\0\0\0\0\x07message');
  expect(readMessage(frameMessage(message))).toEqual(message);
  expect(readMessage(frameMessage(Buffer.alloc(0))).length).toBe(0);
});

test.each([
  ['nothing', ''],
  ['half a prefix', '\0\0\0'],
  ['less than it says', '\0\0\0\0\x05four'],
  ['two messages', '\0\0\0\0\x01a\0\0\0\0\x01b'],
])('%s is no message', (_, body) => {
  expect(() => readMessage(Buffer.from(body, 'latin1'))).toThrow('it is not one message');
});

test('a compressed message is refused, as nobody offered it', () => {
  expect(() => readMessage(Buffer.from('\x01\0\0\0\x01a', 'latin1'))).toThrow('it is compressed');
});

test('a failure is a status and a text that HTTP can carry', () => {
  expect(failureHeaders(new SnapshotError(Code.notFound, 'no "ä" at 100 %\n'))).toEqual({
    'grpc-status': '5',
    'grpc-message': 'no "%C3%A4" at 100 %25%0A',
  });
  expect(failureHeaders(new ForwardedError(Code.aborted, 'x', { more: 'y' }))).toEqual({
    'grpc-status': '10',
    'grpc-message': 'x',
    more: 'y',
  });
  expect(decodeURIComponent(encodeDetails('\ud83d\ude00 \ud83d'))).toBe('\u{1f600} \ufffd');
  expect(encodeDetails('x'.repeat(100_000)).length).toBe(4096);
});

test('a time-out has one unit', () => {
  const read = ['1H', '2M', '3S', '4m', '5000u', '6000000n', '', '5', '123456789S', undefined].map(timeoutMs);
  const none = undefined;
  expect(read).toEqual([3_600_000, 120_000, 3_000, 4, 5, 6, none, none, none, none]);
});
