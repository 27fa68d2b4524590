import { expect, test } from 'vitest';
import { chainIds } from '../../checkpoint/chain-id.ts';
import { Code } from '../../proto/status.ts';
import { fakeDigest as d, fakeFacts } from '../fake-checkpoint.test-helper.ts';
import { checkBase } from './base-check.ts';

const checkpoint = [d('index'), d('data')];
const facts = fakeFacts(2);
const expected = { checkpoint, facts };
const right = [...checkpoint, d('base'), d('base2'), d('diff')];

test('the layers it was taken on are accepted', () => {
  checkBase(expected, chainIds(right));
  const bare = fakeFacts(2, { layers: { ...facts.layers, diff: null } });
  checkBase({ checkpoint, facts: bare }, chainIds(right.slice(0, -1)));
});

test.each([
  [
    'another base layer',
    [...checkpoint, d('base'), d('other'), d('diff')],
    "the base image differs from the checkpoint's (test.local/base:1) in layer 2 of 2",
  ],
  ['a base layer missing', [...checkpoint, d('base')], 'in layer 2 of 2'],
  ['another diff', [...checkpoint, d('base'), d('base2'), d('x')], "not the checkpoint's rootfs diff"],
  ['the diff missing', right.slice(0, -1), "not the checkpoint's rootfs diff"],
  ['a layer on top', [...right, d('more')], 'there are layers above those of the checkpoint (1 more)'],
  ['another data layer', [checkpoint[0] ?? '', d('x'), ...right.slice(2)], 'checkpoint layer 2 of 2'],
  ['no layers at all', [], 'checkpoint layer 1 of 2'],
])('%s is refused and named', (_, diffIds, message) => {
  expect(() => checkBase(expected, chainIds(diffIds))).toThrow(
    expect.objectContaining({ code: Code.failedPrecondition, message: expect.stringContaining(message) }),
  );
});

test('a snapshot whose name is no chain ID is never taken for a layer', () => {
  const chains: (string | undefined)[] = chainIds(right);
  chains[3] = undefined;
  expect(() => checkBase(expected, chains)).toThrow('in layer 2 of 2');
});
