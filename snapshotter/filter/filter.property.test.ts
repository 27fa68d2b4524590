/** The filter parser on texts that nobody thought of. */
import { expect, test } from 'vitest';
import { Random } from '../random.test-helper.ts';
import type { SnapshotInfo } from '../store/snapshot-info.ts';
import { compileFilters } from './index.ts';
import { type Operator, parseFilter, type Selector } from './parse.ts';
import { FilterSyntaxError } from './syntax-error.ts';

const ROUNDS = 1_000;
const CHARS = [
  'a',
  'Z',
  '0',
  '_',
  '-',
  '.',
  ',',
  '=',
  '!',
  '~',
  '"',
  '/',
  '|',
  '\\',
  ' ',
  '\t',
  '\n',
  'é',
  '🙂',
  '\u0085',
  '\0',
];
const text = (random: Random, most: number) => random.many(most, () => random.of(CHARS)).join('');

/** As Go's strconv.Quote would, or another writer of the same text. */
const quote = (random: Random, value: string, mark: string) =>
  mark +
  [...value]
    .map((char) => {
      const code = char.codePointAt(0) ?? 0;
      if (char === mark || char === '\\') return `\\${char}`;
      if (char === '\n') return '\\n';
      switch (random.below(4)) {
        case 0:
          return code > 0xffff
            ? `\\U${code.toString(16).padStart(8, '0')}`
            : `\\u${code.toString(16).padStart(4, '0')}`;
        case 1:
          return [...Buffer.from(char)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
        case 2:
          return [...Buffer.from(char)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
        default:
          return char;
      }
    })
    .join('') +
  mark;

const isWord = (part: string) => /^[A-Za-z0-9_]+$/.test(part);
const isBareValue = (value: string) =>
  /^[a-zA-Z0-9é🙂\\_-][^\s,\0\u0085]*$/u.test(value) && !/^["/|.,=!~]/.test(value);

const write = (random: Random, selectors: readonly Selector[]) =>
  selectors
    .map(({ fieldPath, operator, value }) => {
      const path = fieldPath
        .map((part) => (isWord(part) && random.below(2) ? part : quote(random, part, '"')))
        .join('.');
      if (operator === 'present') return path;
      const mark = operator === '~=' ? random.of(['"', '/', '|']) : '"';
      return path + operator + (isBareValue(value) && random.below(2) ? value : quote(random, value, mark));
    })
    .join(',');

test('what is written by the rules is read as it was meant', () => {
  for (let seed = 0; seed < ROUNDS; seed++) {
    const random = new Random(seed);
    const selectors = random.many(
      4,
      (): Selector => {
        const operator = random.of<Operator>(['present', '==', '!=', '~=']);
        return {
          fieldPath: random.many(3, () => text(random, 6), 1),
          operator,
          value: operator === 'present' ? '' : text(random, 8),
        };
      },
      1,
    );
    const filter = write(random, selectors);
    expect(parseFilter(filter), `seed ${seed}: ${JSON.stringify(filter)}`).toEqual(selectors);
  }
});

test('any other text is read or refused with its place, and never anything else', async () => {
  const info: SnapshotInfo = {
    name: 'n',
    parent: '',
    kind: 'active',
    created: 1n,
    updated: 1n,
    labels: { a: 'Z' },
  };
  let read = 0;
  for (let seed = 0; seed < ROUNDS * 5; seed++) {
    const random = new Random(seed);
    const filter = random
      .many(5, () => random.of(['name', 'labels', '==', '~=', '!=', '"', text(random, 3)]))
      .join('');
    try {
      expect(typeof (await compileFilters([filter]))(info)).toBe('boolean');
      read++;
    } catch (error) {
      expect(error, `seed ${seed}: ${JSON.stringify(filter)}`).toBeInstanceOf(FilterSyntaxError);
      expect(String(error)).toContain('>|');
    }
  }
  // Neither half is empty.
  expect(read).toBeGreaterThan(100);
  expect(read).toBeLessThan(ROUNDS * 5 - 100);
});

test('an equality holds for exactly its value, its opposite for all others', async () => {
  for (let seed = 0; seed < ROUNDS; seed++) {
    const random = new Random(seed);
    const [key, value, other] = [text(random, 5), text(random, 5), text(random, 5)];
    const info: SnapshotInfo = {
      name: 'n',
      parent: '',
      kind: 'active',
      created: 1n,
      updated: 1n,
      labels: { [key]: value },
    };
    const path = `labels.${quote(random, key, '"')}`;
    const holds = async (operator: string, given: string) =>
      (await compileFilters([`${path}${operator}${quote(random, given, '"')}`]))(info);
    expect(await holds('==', value), `seed ${seed}`).toBe(true);
    expect(await holds('!=', value), `seed ${seed}`).toBe(false);
    expect(await holds('==', other), `seed ${seed}`).toBe(other === value);
    expect(await holds('!=', other), `seed ${seed}`).toBe(other !== value);
    expect((await compileFilters([path]))(info), `seed ${seed}`).toBe(true);
  }
});
