import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeLayer } from './layer.ts';
import { describeImage } from './oci.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'demo-layer-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

function tree(name: string, old: number): string {
  const root = join(directory, name);
  mkdirSync(join(root, 'usr/lib'), { recursive: true });
  mkdirSync(join(root, 'proc/1'), { recursive: true });
  writeFileSync(join(root, 'usr/lib/a.py'), 'a');
  utimesSync(join(root, 'usr/lib/a.py'), old, old);
  writeFileSync(join(root, 'usr/lib/b.py'), 'b');
  return root;
}

test('the same files make the same layer, whenever and wherever they were made', async () => {
  const out = join(directory, 'out');
  const settings = { newest: 2000, exclude: ['proc/*'], ownedByRoot: true };
  const one = await makeLayer({ ...settings, root: tree('one', 1000) }, out);
  const two = await makeLayer({ ...settings, root: tree('two', 1000) }, out);
  expect(two).toEqual(one);
  expect(readdirSync(out)).toEqual([one.digest.replace(':', '-')]);

  const list = execFileSync('tar', ['-tvf', '-', '--full-time', '--utc'], {
    input: zstdDecompressSync(readFileSync(one.file)),
    encoding: 'utf8',
  });
  expect(list).toMatch(/1970-01-01 00:16:40 \.\/usr\/lib\/a\.py/); // an earlier time stays
  expect(list).toMatch(/1970-01-01 00:33:20 \.\/usr\/lib\/b\.py/); // a later one does not
  expect(list).toMatch(/\.\/proc\/\n/);
  expect(list).not.toContain('proc/1');
});

test('a directory that cannot be packed leaves nothing behind', async () => {
  const out = join(directory, 'out');
  const source = { root: join(directory, 'none'), newest: 0, exclude: [], ownedByRoot: true };
  await expect(makeLayer(source, out)).rejects.toThrow(/none/);
  expect(readdirSync(out)).toEqual([]);
});

test('an image names its layers twice: as stored and as unpacked', () => {
  const layer = { digest: 'sha256:aa', size: 5, diffId: 'sha256:bb', made: 'by hand' };
  const { config, manifest } = describeImage([layer], { env: { A: '1' }, cmd: ['x'], port: 80 }, 'amd64');
  expect(JSON.parse(manifest.json.toString())).toMatchObject({
    config: { digest: config.digest, size: config.size },
    layers: [{ digest: 'sha256:aa', size: 5 }],
  });
  expect(JSON.parse(config.json.toString())).toMatchObject({
    config: { Env: ['A=1'], ExposedPorts: { '80/tcp': {} } },
    rootfs: { diff_ids: ['sha256:bb'] },
  });
});
