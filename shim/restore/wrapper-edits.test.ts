import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { native } from '../../native/index.ts';
import { ChildSpawner } from '../process/spawn.ts';
import { Runc } from '../runc/runc.ts';
import { silent } from '../task/fakes.ts';
import { wrapperEdits } from './wrapper-edits.ts';

let dir: string;
const config =
  '{"root":{"path":"/abs/rootfs","readonly":true},"process":{"rlimits":[18446744073709551615]},"mounts":[]}';

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'wrapper-'));
  mkdirSync(join(dir, 'work'));
  writeFileSync(join(dir, 'config.json'), config);
});
afterEach(() => rmSync(dir, { recursive: true }));

/** A program in front of runc, as a shell script that gets runc's arguments; `$5` is the bundle. */
function edits(script: string, name = 'fake-wrapper') {
  const binary = join(dir, name);
  writeFileSync(binary, `#!/bin/sh\necho "$@" >> ${dir}/calls\n${script}\n`, { mode: 0o755 });
  const env = { PATH: '/usr/bin:/bin', DIR: dir };
  const runc = new Runc({ binary, root: '/none', systemdCgroup: false, env }, new ChildSpawner(native));
  return wrapperEdits(runc, { id: 'c', bundle: dir }, silent);
}
const edit = 'sed -i s/\\"mounts\\":/\\"hooks\\":{},\\"mounts\\":/ "$5/config.json"';

it('are what the program does to a copy of config.json, whose root file system its runc does not find', async () => {
  const edited = await edits(
    `${edit}; grep -q '"path":"none"' "$5/config.json" || touch "$DIR/wrong"; exit 1`,
  );
  expect(edited).toMatchObject({ before: config, after: config.replace('"mounts"', '"hooks":{},"mounts"') });
  expect(edited?.spec).toMatchObject({ root: { path: '/abs/rootfs', readonly: true }, hooks: {} });
  expect(readFileSync(join(dir, 'config.json'), 'utf8')).toBe(config);
  expect(existsSync(join(dir, 'wrong'))).toBe(false);
  expect(existsSync(join(dir, 'work/edits'))).toBe(false);
});

it('are none where it changes nothing, or fails before', async () => {
  expect(await edits('exit 1')).toBeUndefined();
});

it('are none of runc itself, which is not even asked', async () => {
  expect(await edits(edit, 'runc')).toBeUndefined();
  expect(existsSync(join(dir, 'calls'))).toBe(false);
});

it('leave no container where the program makes one all the same', async () => {
  expect(await edits(`[ "$3" = create ] && ${edit}; exit 0`)).toBeDefined();
  expect(readFileSync(join(dir, 'calls'), 'utf8').trim().split('\n').at(-1)).toMatch(
    /work\/edits\/state delete --force c$/,
  );
});
