import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { mountedFiles } from '../../shim/mounted-files.ts';
import { stageConfigs } from './config-mounts.ts';
import { parseBuildSpec } from './spec.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'config-mounts-'));
});
afterEach(() => rm(dir, { recursive: true }));

const at = (name: string) => join(dir, name);

function spec(source: string) {
  const mounts = [
    { source, destination: '/config', config: true },
    { source: '/srv', destination: '/srv' },
  ];
  return parseBuildSpec(JSON.stringify({ image: 'x', mounts, ready: { tcp: { port: 1 } } }), 'json');
}

/** What a shim makes of a pod's config map in its launch fingerprint. */
async function digestOf(source: string): Promise<string | undefined> {
  const options = ['rbind', 'ro'];
  const [found] = await mountedFiles({ mounts: [{ destination: '/config', source, options }] });
  return found?.digest;
}

it('a shim takes one for the config map of a pod with the same content, and for no other', async () => {
  await mkdir(at('given'));
  await writeFile(at('given/settings'), 'a');
  const volume = at('pods/1234/volumes/kubernetes.io~configmap/settings');
  await mkdir(join(volume, '..2026'), { recursive: true });
  await symlink('..2026', join(volume, '..data'));
  await symlink('..data/settings', join(volume, 'settings'));
  await writeFile(join(volume, '..2026/settings'), 'a');

  for (const source of [at('given'), volume]) {
    const { mounts } = await stageConfigs(spec(source), at(`work-${source === volume}`));
    expect(mounts.map(({ destination, read_only }) => [destination, read_only])).toEqual([
      ['/config', true],
      ['/srv', false],
    ]);
    const staged = mounts[0]?.source ?? '';
    expect(await readdir(staged)).toEqual(['settings']);
    expect(await digestOf(staged)).toBe(await digestOf(volume));
  }
  const same = await digestOf(volume);
  await writeFile(join(volume, '..2026/settings'), 'b');
  expect(await digestOf(volume)).not.toBe(same);
});

it('refuses what no config map is', async () => {
  await writeFile(at('file'), '');
  await mkdir(at('large'));
  await writeFile(at('large/data'), Buffer.alloc(5 << 20));
  await mkdir(at('loop'));
  await symlink('..', at('loop/up'));
  for (const name of ['file', 'large', 'loop'])
    await expect(stageConfigs(spec(at(name)), at('work'))).rejects.toThrow(
      'must be a directory of at most 4 MiB',
    );
});
