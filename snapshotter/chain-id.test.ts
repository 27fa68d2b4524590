import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { chainId, chainOfName } from './chain-id.ts';

const d = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;

test('the chain of one layer is its diff id', () => {
  expect(chainId(undefined, d('a'))).toBe(d('a'));
  expect(chainId('', d('a'))).toBe(d('a'));
});

test('each further layer hashes the chain below it, a space and its diff id', () => {
  expect(chainId(d('a'), d('b'))).toBe(d(`${d('a')} ${d('b')}`));
});

test('a chain id is found at the end of a namespaced name and alone, nowhere else', () => {
  expect(chainOfName(`k8s.io/17/${d('a')}`)).toBe(d('a'));
  expect(chainOfName(d('a'))).toBe(d('a'));
  expect(chainOfName(`x${d('a')}`)).toBeUndefined();
  expect(chainOfName(`k8s.io/17/extract-1 ${d('a')}`)).toBeUndefined();
  expect(chainOfName(`k8s.io/17/${d('a')}/x`)).toBeUndefined();
  expect(chainOfName('')).toBeUndefined();
});
