import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { mountedFiles } from './mounted-files.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'volumes-'));
});
afterEach(() => rm(root, { recursive: true }));

/** As a kubelet writes it: files in a directory with a time in its name, and links to them. */
async function volume(kind: string, name: string, files: Record<string, string>, at = 'a'): Promise<string> {
  const dir = join(root, 'pods/uid/volumes', `kubernetes.io~${kind}`, name);
  await rm(dir, { recursive: true, force: true });
  await mkdir(join(dir, `..${at}`), { recursive: true });
  await symlink(`..${at}`, join(dir, '..data'));
  for (const [file, content] of Object.entries(files)) {
    await writeFile(join(dir, `..${at}`, file), content);
    await symlink(`..data/${file}`, join(dir, file));
  }
  return dir;
}
const mounted = (source: string, destination: string, options = ['rbind', 'ro']) => ({
  source,
  destination,
  options,
});
const digests = async (mounts: ReturnType<typeof mounted>[]) =>
  (await mountedFiles({ mounts })).map(({ destination, digest }) => [destination, digest]);

it('is the same for the same content, wherever and whenever it was written, and another for another one', async () => {
  const [first] = await digests([mounted(await volume('configmap', 'a', { x: '1', y: '2' }), '/etc/conf')]);
  const again = mounted(await volume('configmap', 'other', { x: '1', y: '2' }, 'b'), '/etc/conf');
  expect(await digests([again])).toEqual([first]);
  const changes: Record<string, string>[] = [{ x: '1', y: '3' }, { x: '1' }, { x: '1', z: '2' }];
  for (const files of changes) {
    const [changed] = await digests([mounted(await volume('configmap', 'a', files), '/etc/conf')]);
    expect(changed?.[1]).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(changed).not.toEqual(first);
  }
});

it('looks at config maps and secrets that are mounted read-only alone', async () => {
  const secret = mounted(await volume('secret', 's', { password: 'x' }), '/run/secret');
  const others = [
    mounted(await volume('projected', 'token', { token: 'x' }), '/var/run/secrets'),
    mounted(await volume('configmap', 'w', { x: '1' }), '/writable', ['rbind', 'rw']),
    mounted(join(root, 'pods/uid/volumes/kubernetes.io~secret/gone'), '/gone'),
  ];
  expect((await digests([...others, secret])).map(([destination]) => destination)).toEqual(['/run/secret']);
});
