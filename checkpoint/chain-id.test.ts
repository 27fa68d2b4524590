import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { chainId, chainIds } from './chain-id.ts';
import { digestOf } from './digest.ts';

test('the chain ID of one layer is its diff ID', () => {
  expect(chainId([digestOf('a')])).toBe(digestOf('a'));
  expect(chainId([])).toBeUndefined();
});

test('every further layer hashes the chain below it, a space and its diff ID', () => {
  const [a, b, c] = [digestOf('a'), digestOf('b'), digestOf('c')];
  const ab = `sha256:${createHash('sha256').update(`${a} ${b}`).digest('hex')}`;
  const abc = `sha256:${createHash('sha256').update(`${ab} ${c}`).digest('hex')}`;
  expect(chainIds([a, b, c])).toEqual([a, ab, abc]);
  expect(chainId([a, b, c])).toBe(abc);
});
