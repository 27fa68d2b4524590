import { expect, it } from 'vitest';
import { formatReadOrder, parseReadOrder } from './read-order.ts';

const parse = (text: string) => parseReadOrder(Buffer.from(text), 'order.json');
const layer = { diffId: 'sha256:a', frames: [3, 0, 7] };

it('is read as it was written', () => {
  expect(parse(formatReadOrder([layer]))).toEqual(new Map([['sha256:a', [3, 0, 7]]]));
});

it.each([
  ['no JSON', '{', /does not say what was read/],
  ['another version', formatReadOrder([layer]).replace('"version":1', '"version":2'), /does not say/],
  [
    'no frames',
    JSON.stringify({ version: 1, frameBytes: 262144, layers: [{ diffId: 'a', frames: [-1] }] }),
    /does not say/,
  ],
  ['frames of another length', formatReadOrder([layer]).replace('262144', '65536'), /of another length/],
])('with %s is refused', (_, text, why) => {
  expect(() => parse(text)).toThrow(why);
});
