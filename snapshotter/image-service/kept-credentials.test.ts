import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Credentials } from '../../checkpoint/registry/index.ts';
import { KeptCredentials } from './kept-credentials.ts';

const HOUR = 3_600_000;
const login = (username: string): Credentials => ({ kind: 'password', username, password: 'p' });
const app = { registry: 'r.example', repository: 'team/app' };

let now: number;
let kept: KeptCredentials;
beforeEach(() => {
  now = 0;
  kept = new KeptCredentials(HOUR, () => now);
});
afterEach(() => kept.close());

test('are found for their repository alone', () => {
  kept.keep(app, login('a'));
  expect(kept.find({ ...app, refused: [] })).toEqual(login('a'));
  for (const other of [
    { ...app, repository: 'team/other' },
    { ...app, registry: 'mirror.example' },
    { registry: 'r.example/team', repository: 'app/x' },
  ])
    expect(kept.find({ ...other, refused: [] })).toBeUndefined();
});

test('the newest come first, then those before that were not refused', () => {
  for (const name of ['a', 'b', 'a']) kept.keep(app, login(name));
  expect(kept.count).toBe(2);
  expect(kept.find({ ...app, refused: [] })).toEqual(login('a'));
  expect(kept.find({ ...app, refused: [login('a')] })).toEqual(login('b'));
  expect(kept.find({ ...app, refused: [login('a'), login('b')] })).toBeUndefined();
});

test('are forgotten some time after the last pull with them', () => {
  kept.keep(app, login('a'));
  now = HOUR - 1;
  kept.keep({ ...app, repository: 'b' }, login('b'));
  expect(kept.count).toBe(2);
  now = HOUR;
  expect(kept.find({ ...app, refused: [] })).toBeUndefined();
  expect(kept.count).toBe(1);
  kept.close();
  expect(kept.count).toBe(0);
});

test('are not more than a node can have use for', () => {
  for (let i = 0; i < 1_001; i++) kept.keep({ ...app, repository: `r${i}` }, login('a'));
  expect(kept.count).toBe(1_000);
  expect(kept.find({ ...app, repository: 'r0', refused: [] })).toBeUndefined();
  for (let i = 0; i < 9; i++) kept.keep(app, login(`u${i}`));
  expect(kept.count).toBe(1_003);
});
