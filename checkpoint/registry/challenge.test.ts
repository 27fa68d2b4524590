import { expect, test } from 'vitest';
import { parseChallenges } from './challenge.ts';

test('reads one bearer challenge', () => {
  const header =
    'Bearer realm="https://a.example/token",service="r.example",scope="repository:a/b:pull,push"';
  expect(parseChallenges(header)).toEqual([
    {
      scheme: 'bearer',
      parameters: {
        realm: 'https://a.example/token',
        service: 'r.example',
        scope: 'repository:a/b:pull,push',
      },
    },
  ]);
});

test('reads several challenges in one header and in several', () => {
  expect(parseChallenges('Basic realm="x, y", Bearer realm=z , error="a\\"b"').map((c) => c.scheme)).toEqual([
    'basic',
    'bearer',
  ]);
  expect(parseChallenges(['Negotiate', 'Basic realm="x"']).map((c) => c.scheme)).toEqual([
    'negotiate',
    'basic',
  ]);
  expect(parseChallenges('Bearer realm=z, error="a\\"b"')[0]?.parameters['error']).toBe('a"b');
});

test('does not hang or throw on nonsense', () => {
  for (const text of ['', ',,,', '="', 'Bearer realm="', 'Bearer realm', '\u0000', ', ,Basic'])
    expect(Array.isArray(parseChallenges(text))).toBe(true);
  expect(parseChallenges(undefined)).toEqual([]);
  expect(parseChallenges('Bearer __proto__="x"')[0]?.parameters['realm']).toBeUndefined();
});
