import { describe, expect, it } from 'vitest';
import { type DecodedFrame, encodeFrame, FrameDecoder, HEADER_LENGTH, MAX_DATA_LENGTH } from './frame.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

function decode(bytes: Buffer, pieceLength: number, maxData = MAX_DATA_LENGTH): DecodedFrame[] {
  const decoder = new FrameDecoder(maxData);
  const frames: DecodedFrame[] = [];
  for (let at = 0; at < bytes.length; at += pieceLength)
    frames.push(...decoder.push(bytes.subarray(at, at + pieceLength)));
  return frames;
}

describe('encodeFrame', () => {
  it('writes a ten-byte big-endian header before the data', () => {
    expect(encodeFrame(0x01020305, 1, 2, Buffer.from('ab'))).toEqual(hex('00000002 01020305 01 02 6162'));
  });
});

describe('FrameDecoder', () => {
  const three = Buffer.concat([
    encodeFrame(1, 1, 0, Buffer.from('first')),
    encodeFrame(3, 2, 0, Buffer.alloc(0)),
    encodeFrame(5, 0x7f, 9, Buffer.from('unknown type')),
  ]);
  const expected = [
    { kind: 'frame', stream: 1, type: 1, flags: 0, data: Buffer.from('first') },
    { kind: 'frame', stream: 3, type: 2, flags: 0, data: Buffer.alloc(0) },
    { kind: 'frame', stream: 5, type: 0x7f, flags: 9, data: Buffer.from('unknown type') },
  ];

  it.each([1, 2, 3, 7, 9, 10, 11, 13, 1000])('reads the same frames in pieces of %i bytes', (length) => {
    expect(decode(three, length)).toEqual(expected);
  });

  it('is idle between frames only', () => {
    const decoder = new FrameDecoder();
    expect(decoder.idle).toBe(true);
    decoder.push(three.subarray(0, 4));
    expect(decoder.idle).toBe(false);
    decoder.push(three.subarray(4, HEADER_LENGTH));
    expect(decoder.idle).toBe(false);
    decoder.push(three.subarray(HEADER_LENGTH));
    expect(decoder.idle).toBe(true);
  });

  it('answers nothing for a truncated frame', () => {
    expect(decode(three.subarray(0, HEADER_LENGTH + 4), 3)).toEqual([]);
  });

  it.each([1, 5, 10, 12, 64, 1000])('skips oversized data and goes on, in pieces of %i bytes', (length) => {
    const bytes = Buffer.concat([
      encodeFrame(1, 1, 0, Buffer.alloc(33, 1)),
      encodeFrame(3, 1, 0, Buffer.alloc(32, 2)),
      encodeFrame(5, 1, 0, Buffer.alloc(40, 3)),
      encodeFrame(7, 1, 0, Buffer.from('x')),
    ]);
    expect(decode(bytes, length, 32).map((f) => [f.kind, f.stream])).toEqual([
      ['oversized', 1],
      ['frame', 3],
      ['oversized', 5],
      ['frame', 7],
    ]);
  });

  it('reports an oversized frame from its header alone, without holding the data', () => {
    const decoder = new FrameDecoder();
    expect(decoder.push(hex('ffffffff 00000001 01 00'))).toEqual([
      { kind: 'oversized', stream: 1, type: 1, flags: 0, length: 0xffffffff },
    ]);
  });
});
