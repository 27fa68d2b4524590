import { describe, expect, it } from 'vitest';
import { BadHead, MAX_HEAD_BYTES, parseResponseHead, requestHead } from './http-head.ts';

const parse = (text: string) => parseResponseHead(Buffer.from(text, 'latin1'));
const ok = 'HTTP/1.1 206 Partial Content\r\n';

describe('the head of an answer', () => {
  it('is understood once it is whole', () => {
    const text = `${ok}Content-Length: 12\r\nETag:  "x" \r\nVary: a\r\nvary: b\r\nSet-Cookie: no\r\n\r\nbody`;
    for (let i = 0; i < text.indexOf('\r\n\r\n') + 4; i++) expect(parse(text.slice(0, i))).toBeUndefined();
    expect(parse(text)).toEqual({
      status: 206,
      headers: { 'content-length': '12', etag: '"x"', vary: 'a, b' },
      body: { kind: 'length', length: 12 },
      keepAlive: true,
      end: text.length - 4,
    });
  });

  it('says whether the connection stays', () => {
    expect(parse('HTTP/1.1 200\r\nConnection: Close\r\n\r\n')?.keepAlive).toBe(false);
    expect(parse('HTTP/1.0 200 OK\r\n\r\n')?.keepAlive).toBe(false);
    expect(parse('HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n')?.keepAlive).toBe(true);
  });

  it('says where the body ends', () => {
    expect(parse(`${ok}\r\n`)?.body).toEqual({ kind: 'connection' });
    const chunked = `${ok}Transfer-Encoding: Chunked\r\nContent-Length: 3\r\n\r\n`;
    expect(parse(chunked)?.body).toEqual({ kind: 'chunked' });
  });

  it.each([
    ['another protocol', 'SSH-2.0-x\r\n\r\n'],
    ['another version', 'HTTP/2 200\r\n\r\n'],
    ['a header without a colon', `${ok}nonsense\r\n\r\n`],
    ['a space before the colon', `${ok}content-length : 1\r\n\r\n`],
    ['a line that goes on', `${ok}a: b\r\n c\r\n\r\n`],
    ['two lengths', `${ok}content-length: 1\r\ncontent-length: 2\r\n\r\n`],
    ['a length that is none', `${ok}content-length: -1\r\n\r\n`],
    ['a length beyond all numbers', `${ok}content-length: 9999999999999999\r\n\r\n`],
    ['a coding that is not known', `${ok}transfer-encoding: gzip, chunked\r\n\r\n`],
    ['no end', 'x'.repeat(MAX_HEAD_BYTES + 1)],
  ])('is refused: %s', (_, text) => {
    expect(() => parse(text)).toThrow(BadHead);
  });
});

describe('the head of a request', () => {
  it('asks for one thing', () => {
    const url = new URL('http://h:1/v2/a/blobs/x?ns=y');
    expect(requestHead(url, { range: 'bytes=0-1' })).toBe(
      'GET /v2/a/blobs/x?ns=y HTTP/1.1\r\nhost: h:1\r\nrange: bytes=0-1\r\n\r\n',
    );
    expect(() => requestHead(url, { authorization: 'Bearer a\r\nx: y' })).toThrow(TypeError);
    expect(() => requestHead(url, { 'a b': 'c' })).toThrow(TypeError);
  });
});
