import { expect, test } from 'vitest';
import { ErrorCode } from './frames.ts';
import { encodeHeaders, type Field, HeaderDecoder } from './hpack.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const request = (scheme: string, path: string, ...more: Field[]): Field[] => [
  [':method', 'GET'],
  [':scheme', scheme],
  [':path', path],
  [':authority', 'www.example.com'],
  ...more,
];
const response = (status: string, date: string, ...more: Field[]): Field[] => [
  [':status', status],
  ['cache-control', 'private'],
  ['date', date],
  ['location', 'https://www.example.com'],
  ...more,
];

test.each([
  [
    'as they are',
    '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
    '8286 84be 5808 6e6f 2d63 6163 6865',
    '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
  ],
  [
    "in Huffman's code",
    '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
    '8286 84be 5886 a8eb 1064 9cbf',
    '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
  ],
])('the examples of RFC 7541, appendices C.3 and C.4: texts %s', (_, first, second, third) => {
  const decoder = new HeaderDecoder();
  expect(decoder.decode(hex(first))).toEqual(request('http', '/'));
  const noCache = decoder.decode(hex(second));
  expect(new Map(noCache)).toEqual(new Map(request('http', '/', ['cache-control', 'no-cache'])));
  const custom = decoder.decode(hex(third));
  expect(new Map(custom)).toEqual(new Map(request('https', '/index.html', ['custom-key', 'custom-value'])));
});

test('the examples of appendix C.6, whose table holds 256 bytes', () => {
  const decoder = new HeaderDecoder();
  const first = `3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
    2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`.replace(/\s+/g, '');
  expect(decoder.decode(hex(first))).toEqual(response('302', 'Mon, 21 Oct 2013 20:13:21 GMT'));
  expect(decoder.decode(hex('4883 640e ffc1 c0bf'))).toEqual(
    response('307', 'Mon, 21 Oct 2013 20:13:21 GMT'),
  );
  const third = `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7
    821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50
    07`.replace(/\s+/g, '');
  expect(decoder.decode(hex(third))).toEqual(
    response(
      '200',
      'Mon, 21 Oct 2013 20:13:22 GMT',
      ['content-encoding', 'gzip'],
      ['set-cookie', 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'],
    ),
  );
});

test('what is encoded is decoded, whatever its length', () => {
  const fields: Field[] = [
    [':status', '200'],
    [':status', '404'],
    ['empty', ''],
    ...[126, 127, 128, 254, 255, 300, 20_000].map((length): Field => [`n${length}`, 'x'.repeat(length)]),
    ['latin', '\u00e4'],
  ];
  const block = encodeHeaders(fields);
  expect(new HeaderDecoder().decode(block)).toEqual(fields);
  expect(block[0]).toBe(0x88);
});

test.each([
  ['an entry that is not there', 'be'],
  ['entry 0', '80'],
  ['a text that is cut off', '0005 6162'],
  ['a name that is cut off', '00'],
  ['a number without an end', `00 7f ${'ff'.repeat(20)}`],
  ['a table that is too large', '3fe1ff03'],
  ['a code that ends too early', '0081 fe'],
  ['an end mark', '0084 ffff fffc'],
  ['too many ones at the end', '0082 1fff'],
])('%s is refused', (_, block) => {
  expect(() => new HeaderDecoder().decode(hex(block))).toThrow(
    expect.objectContaining({ name: 'Http2Error', code: ErrorCode.compression }),
  );
});
