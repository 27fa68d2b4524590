import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { configSchema } from './config.ts';
import { configKeys, nearestKey } from './config-keys.ts';

const keys = configKeys(configSchema);
const documented = [
  ...(readFileSync(join(import.meta.dirname, '../docs/operations.md'), 'utf8')
    .split('| key | default | meaning |')[1]
    ?.split('\n\n')[0]
    ?.matchAll(/^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$/gm) ?? []),
].map(([, key = '', value = '', meaning = '']) => ({
  key: key.replace('"HOST[:PORT]"', '*'),
  default: /^`(.*)`$/.exec(value.trim())?.[1],
  meaning: meaning.trim(),
}));
const byKey = <T extends { key: string }>(list: readonly T[]) =>
  [...list].sort((a, b) => (a.key < b.key ? -1 : 1));

it('docs/operations.md has every key, no other, with its default', () => {
  expect(byKey(documented).map(({ key }) => key)).toEqual(
    byKey(keys.map(({ path }) => ({ key: path.join('.') }))).map(({ key }) => key),
  );
  for (const { path, default: value } of keys) {
    const key = path.join('.');
    const line = documented.find((entry) => entry.key === key);
    expect(line?.meaning, key).not.toBe('');
    // Computed from another key.
    if (key === 'address') continue;
    const empty = value === undefined || (Array.isArray(value) && value.length === 0);
    const shown = typeof value === 'string' ? value : JSON.stringify(value);
    expect(line?.default, key).toBe(empty ? undefined : shown);
  }
});

it.each([
  ['rot', 'root'],
  ['fetch.conections', 'fetch.connections'],
  ['connections', 'fetch.connections'],
  ['max_bytes', 'cache.max_bytes'],
  ['colour', undefined],
  ['x', undefined],
])('for %s it names %s', (unknown, meant) => {
  expect(nearestKey(unknown.split('.'), keys)).toBe(meant);
});

it('names keys of tables with names of their own', () => {
  expect(nearestKey(['registries', 'r.example:5000', 'mirror'], keys)).toBe(
    'registries.r.example:5000.mirrors',
  );
  expect(nearestKey(['plain_htp'], keys)).toBe('registries.HOST.plain_http');
});
