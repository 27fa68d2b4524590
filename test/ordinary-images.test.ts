/** Ordinary images through containerd, a registry and thaw-snapshotter: as under containerd's own overlayfs. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { SnapshotsClient } from './conformance/snapshots-client.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import { CriClient, podConfig } from './lib/cri/index.ts';
import {
  assertNothingLeft,
  type Blob,
  busybox,
  Containerd,
  type Image,
  image,
  imageTar,
  type Leftovers,
  layer,
  push,
  Registry,
  takeStock,
  until,
} from './lib/index.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar';
const pod = podConfig({ name: 'pod', uid: 'u1', runtimeHandler: 'thaw' });

let base: Blob;
let second: Blob;
let before: Leftovers;
let thaw: ThawDaemon;
let containerd: Containerd;
let registry: Registry;
let cri: CriClient;
let snapshots: SnapshotsClient;

beforeAll(async () => {
  base = await layer([...busybox(), { path: 'etc/motd', content: 'base' }]);
  second = await layer([
    { path: 'etc/motd', content: 'second' },
    { path: 'srv/data', content: 'x'.repeat(4096) },
  ]);
});
beforeEach(async () => {
  before = takeStock();
  thaw = await ThawDaemon.start();
  registry = await Registry.start();
  containerd = await Containerd.start({ snapshotterSocket: thaw.socket, snapshotterRoot: thaw.root });
  cri = new CriClient(containerd.socket);
  snapshots = new SnapshotsClient(thaw.socket);
});
afterEach(async () => {
  snapshots.close();
  cri.close();
  await containerd.removeContainers();
  await containerd.removeContainers('k8s.io');
  await containerd.stop();
  await registry.stop();
  await thaw.stop();
  // runc leaves a namespace's own cgroups and folder by design.
  await assertNothingLeft(before, 5000, [/\/other$/]);
});

const ctr = (...args: string[]) => containerd.ctr(args);
const local = () => (containerd.version === '2' ? ['--local'] : []);
const importImage = async (name: string, what: Image, snapshotter: string) => {
  const tar = join(containerd.dir, 'image.tar');
  writeFileSync(tar, await imageTar(name, what));
  await ctr('images', 'import', ...local(), '--snapshotter', snapshotter, tar);
};
const pull = (reference: string) => cri.pullImage(reference, pod, 'thaw');

describe('ordinary images', () => {
  it('are imported, run, changed, committed as a layer and removed', async () => {
    await importImage('test.local/app:1', image([base, second], { cmd: ['sh'] }), 'thaw');
    const ran = await ctr(
      'run',
      '--snapshotter',
      'thaw',
      'test.local/app:1',
      'one',
      'sh',
      '-c',
      'cat /etc/motd; echo changed > /etc/motd; rm /srv/data',
    );
    expect(ran.stdout).toBe('second');
    const layerTar = await ctr('snapshots', '--snapshotter', 'thaw', 'diff', '--media-type', LAYER, 'one');
    expect(layerTar.stdout).toContain('etc/motd');
    expect(layerTar.stdout).toContain('srv/.wh.data');
    await ctr('container', 'rm', 'one');
    await ctr('images', 'rm', '--sync', 'test.local/app:1');
    await until('garbage collection', async () => (await snapshots.list()).length === 0);
    await snapshots.cleanup();
    expect(readdirSync(join(thaw.root, 'snapshots'))).toEqual([]);
  });

  it('are pulled through CRI, in two namespaces, and with containerd killed between', async () => {
    const reference = await push(registry.host, 'test/app', '1', image([base, second], { cmd: ['sh'] }));
    await pull(reference);
    expect((await snapshots.list('kind==committed')).length).toBe(2);
    await ctr(
      '-n',
      'other',
      'images',
      'pull',
      '--plain-http',
      ...local(),
      '--snapshotter',
      'thaw',
      reference,
    );
    expect((await snapshots.list('kind==committed')).length).toBe(4);
    await containerd.kill();
    await containerd.restart();
    const ran = await ctr(
      '-n',
      'other',
      'run',
      '--rm',
      '--snapshotter',
      'thaw',
      reference,
      'x',
      'cat',
      '/etc/motd',
    );
    expect(ran.stdout).toBe('second');
  });

  it('of 100 layers run', async () => {
    const layers = [base];
    for (let i = 1; i < 100; i++) layers.push(await layer([{ path: `srv/${i}`, content: `${i}` }]));
    await importImage('test.local/deep:1', image(layers, { cmd: ['sh'] }), 'thaw');
    const ran = await ctr(
      ...['run', '--rm', '--snapshotter', 'thaw', 'test.local/deep:1', 'deep'],
      ...['sh', '-c', 'cat /srv/1 /srv/50 /srv/99'],
    );
    expect(ran.stdout).toBe('15099');
  });
});
