import { expect, it } from 'vitest';
import { createdOf } from './created.ts';

it('is now unless the environment says otherwise', () => {
  expect(createdOf(undefined)).toBeUndefined();
  expect(createdOf('')).toBeUndefined();
  expect(createdOf('1767225600')?.toISOString()).toBe('2026-01-01T00:00:00.000Z');
});

it.each(['yesterday', '-1', '1.5', '99999999999999'])('refuses %s', (epoch) => {
  expect(() => createdOf(epoch)).toThrow('seconds since 1970');
});
