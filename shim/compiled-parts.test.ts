import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { CompiledParts } from './compiled-parts.ts';

let folder: string;
let cache: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'thaw-parts-'));
  cache = join(folder, 'cache');
});
afterEach(() => rmSync(folder, { recursive: true }));

function start(at = cache): CompiledParts {
  return new CompiledParts({ folder, cache: at, require: (name) => `node's ${name}`, crc32 });
}

/** Long enough that V8 leaves the function alone until it is called. */
function source(value: number): string {
  const work = 'for (const i of [1, 2, 3]) sum += i - 2;'.repeat(20);
  return `exports.later = function later() { let sum = ${value + 6}; ${work} return sum; };`;
}

const put = (name: string, text: string) => writeFileSync(join(folder, name), text);
const later = (parts: CompiledParts, file = './one.cjs') =>
  (parts.require(file) as { later(): number }).later();
const sizeOf = (name: string) => statSync(join(cache, `${name}.code`)).size;

it('runs files of the program once, with each other and with what Node has', () => {
  put('one.cjs', `exports.it = [require('./two.cjs').name, require('node:fs'), __dirname, __filename];`);
  put('two.cjs', `exports.name = 'two'; globalThis.thawRuns = (globalThis.thawRuns ?? 0) + 1;`);
  const parts = start();
  expect(parts.require('./one.cjs')).toEqual({
    it: ['two', "node's node:fs", folder, join(folder, 'one.cjs')],
  });
  parts.require('./two.cjs');
  expect((globalThis as { thawRuns?: number }).thawRuns).toBe(1);
});

it('keeps functions that ran', () => {
  put('one.cjs', source(1));
  put('two.cjs', source(1));
  const parts = start();
  parts.require('./one.cjs');
  expect(later(parts, './two.cjs')).toBe(7);
  parts.keep();
  expect(sizeOf('two.cjs')).toBeGreaterThan(sizeOf('one.cjs') + 500);
});

it('writes code once, and for all files again when one had none', () => {
  put('one.cjs', source(1));
  put('two.cjs', source(1));
  const first = start();
  first.require('./one.cjs');
  first.keep();
  const size = sizeOf('one.cjs');
  const second = start();
  later(second);
  second.keep();
  expect(sizeOf('one.cjs')).toBe(size);
  second.require('./two.cjs');
  second.keep((file) => file === 'two.cjs');
  expect(readdirSync(cache)).toEqual(['one.cjs.code']);
  second.keep();
  expect(readdirSync(cache)).toEqual(['one.cjs.code', 'two.cjs.code']);
  expect(sizeOf('one.cjs')).toBeGreaterThan(size);
});

it('takes no code of another source of the same length, and writes that anew', () => {
  put('one.cjs', source(1));
  const first = start();
  expect(later(first)).toBe(7);
  first.keep();
  put('one.cjs', source(5));
  const second = start();
  expect(later(second)).toBe(11);
  second.keep();
  expect(later(start())).toBe(11);
});

it.each([
  ['damaged', (kept: Buffer) => kept.fill(0xff, kept.length - 60, kept.length - 40)],
  ['cut off', (kept: Buffer) => kept.subarray(0, kept.length - 100)],
  ['cut off in its header', (kept: Buffer) => kept.subarray(0, 5)],
])('takes no code that is %s', (_, damage) => {
  put('one.cjs', source(1));
  const first = start();
  later(first);
  first.keep();
  const file = join(cache, 'one.cjs.code');
  const kept = readFileSync(file);
  writeFileSync(file, damage(Buffer.from(kept)));
  const second = start();
  expect(later(second)).toBe(7);
  second.keep();
  expect(readFileSync(file).length).toBeGreaterThan(1000);
  expect(readFileSync(file).readUInt32LE(4)).toBe(crc32(readFileSync(file).subarray(8)));
});

it('leaves no second file where a server was killed as it wrote', () => {
  put('one.cjs', source(1));
  mkdirSync(cache);
  writeFileSync(join(cache, 'one.cjs.code.new'), 'half');
  const parts = start();
  later(parts);
  parts.keep();
  expect(readdirSync(cache)).toEqual(['one.cjs.code']);
  expect(later(start())).toBe(7);
});

it('does without where nothing can be kept', () => {
  put('one.cjs', source(1));
  const parts = start(join(folder, 'one.cjs/cache'));
  expect(later(parts)).toBe(7);
  parts.keep();
  expect(readdirSync(folder)).toEqual(['one.cjs']);
});
