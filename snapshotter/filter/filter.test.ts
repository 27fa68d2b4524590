import { describe, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import type { SnapshotInfo } from '../store/snapshot-info.ts';
import { compileFilters } from './index.ts';
import { parseFilter } from './parse.ts';
import { FilterSyntaxError } from './syntax-error.ts';

const info = (over: Partial<SnapshotInfo>): SnapshotInfo => ({
  name: 'n',
  parent: '',
  kind: 'committed',
  created: 1n,
  updated: 1n,
  labels: {},
  ...over,
});

describe('parseFilter', () => {
  test('takes what containerd sends for a remote snapshot', () => {
    const ref = `sha256:${'a'.repeat(64)}`;
    expect(parseFilter(`labels."containerd.io/snapshot.ref"==${ref},parent=="k8s.io/3/${ref}"`)).toEqual([
      { fieldPath: ['labels', 'containerd.io/snapshot.ref'], operator: '==', value: ref },
      { fieldPath: ['parent'], operator: '==', value: `k8s.io/3/${ref}` },
    ]);
  });

  test.each([
    ['labels.l', [{ fieldPath: ['labels', 'l'], operator: 'present', value: '' }]],
    [
      'name,kind',
      [
        { fieldPath: ['name'], operator: 'present', value: '' },
        { fieldPath: ['kind'], operator: 'present', value: '' },
      ],
    ],
    ['parent!=""', [{ fieldPath: ['parent'], operator: '!=', value: '' }]],
    ['name~=/^a\\/b$/', [{ fieldPath: ['name'], operator: '~=', value: '^a/b$' }]],
    ['name~=|a/b|', [{ fieldPath: ['name'], operator: '~=', value: 'a/b' }]],
    ['name=="a\\tb\\x41\\101\\u00e9\\"c"', [{ fieldPath: ['name'], operator: '==', value: 'a\tbAAé"c' }]],
    ['name==a=b!c', [{ fieldPath: ['name'], operator: '==', value: 'a=b!c' }]],
    ['labels."a-b"==x.y/z', [{ fieldPath: ['labels', 'a-b'], operator: '==', value: 'x.y/z' }]],
    ['name\u0085==\u0085v', [{ fieldPath: ['name'], operator: '==', value: 'v' }]],
    [' name == v', [{ fieldPath: ['name'], operator: '==', value: 'v' }]],
    ['', []],
  ])('reads %j', (input, expected) => {
    expect(parseFilter(input)).toEqual(expected);
  });

  test.each([
    'name==/a',
    'name==/a/',
    'name==|a|',
    'name=="a',
    'name=="\\q"',
    'name==',
    'name=a',
    'name=== a',
    '==a',
    'name,,kind',
    'name,',
    'labels.',
    'labels.=="x"',
    'name "x"',
    'name==a b',
    '/name/==a',
    'name=="\\400"',
    'labels.a-b==x',
    'name==\ufeffv',
    '*',
  ])('refuses %j', (input) => {
    expect(() => parseFilter(input)).toThrow(FilterSyntaxError);
  });

  test('the error is InvalidArgument and shows the place', () => {
    try {
      parseFilter('name==/a/');
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ code: Code.invalidArgument });
      expect(String(error)).toContain('[name== >|/|< a/]');
    }
  });
});

describe('compileFilters', () => {
  test('strings are alternatives, selectors of one string all hold', async () => {
    const matches = await compileFilters(['name==a', 'name==b,kind==active']);
    expect(matches(info({ name: 'a' }))).toBe(true);
    expect(matches(info({ name: 'b' }))).toBe(false);
    expect(matches(info({ name: 'b', kind: 'active' }))).toBe(true);
  });

  test('nothing and the empty filter match everything', async () => {
    expect((await compileFilters([]))(info({}))).toBe(true);
    expect((await compileFilters(['']))(info({}))).toBe(true);
  });

  test('a label path is joined with dots and need not be quoted', async () => {
    const labelled = info({ labels: { 'a.b': 'v' } });
    expect((await compileFilters(['labels.a.b==v']))(labelled)).toBe(true);
    expect((await compileFilters(['labels."a.b"==v']))(labelled)).toBe(true);
    expect((await compileFilters(['labels.a']))(labelled)).toBe(false);
  });

  test('parent!="" is every snapshot with a parent', async () => {
    const matches = await compileFilters(['parent!=""']);
    expect(matches(info({ parent: 'p' }))).toBe(true);
    expect(matches(info({ parent: '' }))).toBe(false);
  });

  test('names of Object.prototype are no labels and unknown fields are absent', async () => {
    expect((await compileFilters(['labels.constructor']))(info({}))).toBe(false);
    expect((await compileFilters(['size']))(info({}))).toBe(false);
    expect((await compileFilters(['size!=1']))(info({}))).toBe(true);
  });

  test('expressions match a part of the value, a broken one matches nothing', async () => {
    expect((await compileFilters(['name~=/^ab+$/']))(info({ name: 'abbb' }))).toBe(true);
    expect((await compileFilters(['name~=bb']))(info({ name: 'abbb' }))).toBe(true);
    expect((await compileFilters(['name~=/(/']))(info({ name: '(' }))).toBe(false);
  });

  test.each([
    ['(?i)^ABB', true],
    ['^\\\\pL+$', true],
    ['^(?P<x>ab)', true],
    ['\\\\Aabbb\\\\z', true],
    // Of JavaScript, not of Go.
    ['(?=a)', false],
    ['(?<=a)b', false],
    ['(b)\\\\1', false],
    ['^a(?!c)', false],
  ])('the expression %s is read as Go does', async (source, expected) => {
    expect((await compileFilters([`name~="${source}"`]))(info({ name: 'abbb' }))).toBe(expected);
  });

  test('an expression takes time as the value is long, whatever it is', async () => {
    const matches = await compileFilters(['name~=/^(a+)+$/']);
    expect(matches(info({ name: `${'a'.repeat(4_000)}!` }))).toBe(false);
    expect(matches(info({ name: 'a'.repeat(4_000) }))).toBe(true);
  });

  test('an expression sees an absent field as an empty one', async () => {
    expect((await compileFilters(['labels.x~=/^$/']))(info({}))).toBe(true);
    expect((await compileFilters(['labels.x~=/./']))(info({}))).toBe(false);
    expect((await compileFilters(['labels.x==""']))(info({}))).toBe(false);
  });
});
