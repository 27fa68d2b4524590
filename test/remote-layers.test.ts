/** Checkpoint images through containerd, a registry and thaw-snapshotter: they are streamed. */
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { INDEX_ANNOTATION } from '../checkpoint/annotation.ts';
import { native } from '../native/index.ts';
import { Code } from '../proto/status.ts';
import {
  type FakeCheckpoint,
  fakeCheckpoint,
  fakeFacts,
} from '../snapshotter/fake-checkpoint.test-helper.ts';
import { SnapshotsClient } from './conformance/snapshots-client.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import { CriClient, podConfig } from './lib/cri/index.ts';
import {
  assertNothingLeft,
  type Blob,
  blob,
  busybox,
  Containerd,
  type Image,
  image,
  imageTar,
  type Leftovers,
  layer,
  push,
  Registry,
  type RegistryRequest,
  takeStock,
  until,
} from './lib/index.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar';
const MIB = 1 << 20;
const pod = podConfig({ name: 'pod', uid: 'u1', runtimeHandler: 'thaw' });

let base: Blob;
let second: Blob;
let diff: Blob;
let checkpoint: FakeCheckpoint;
let built: Image;

/** A checkpoint image as the CLI pushes it; `with` may spoil it. */
function checkpointImage(spoil: (blobs: Map<string, Buffer>) => void = () => {}): Image {
  const blobs = new Map(checkpoint.blobs);
  spoil(blobs);
  const layers = [...blobs].map(([digest, bytes]): Blob => ({ mediaType: LAYER, digest, bytes }));
  const plain = image([...layers, base, second, diff], { cmd: ['sh'] });
  const manifest = JSON.parse(plain.manifest.bytes.toString()) as { layers: Record<string, unknown>[] };
  for (const descriptor of manifest.layers.slice(0, layers.length))
    descriptor['annotations'] = { [INDEX_ANNOTATION]: checkpoint.annotation };
  return {
    ...plain,
    manifest: blob(plain.manifest.mediaType, Buffer.from(JSON.stringify(manifest))),
  };
}

async function makeFixtures(): Promise<void> {
  base = await layer([...busybox(), { path: 'etc/motd', content: 'base' }]);
  second = await layer([
    { path: 'etc/motd', content: 'second' },
    { path: 'srv/data', content: 'x'.repeat(4096) },
  ]);
  diff = await layer([{ path: 'etc/motd', content: 'diff' }]);
  const facts = ({ digest, bytes }: Blob) => ({
    digest,
    diffId: digest,
    mediaType: LAYER,
    size: bytes.length,
  });
  // No pattern: a wrong offset cannot go unseen.
  const chunks = (count: number, bytes: number, seed: number) =>
    Array.from({ length: count }, (_, i) => {
      const content = Buffer.alloc(bytes);
      for (let at = 0; at < bytes; at += 8) content.writeBigUInt64LE(BigInt(seed * 1e9 + i * bytes + at), at);
      return { at: i * bytes, bytes: content };
    });
  checkpoint = fakeCheckpoint(
    [
      [
        { name: 'inventory.img', size: 4096, chunks: chunks(1, 4096, 1) },
        { name: 'pages-1.img', size: 24 * MIB, chunks: chunks(40, MIB / 2, 2) },
      ],
      [{ name: 'pages-2.img', size: 12 * MIB, chunks: chunks(12, MIB, 3) }],
    ],
    {
      facts: {
        layers: { ...fakeFacts(3).layers, checkpoint: 3, base: [base, second].map(facts), diff: facts(diff) },
      },
    },
  );
  built = checkpointImage();
}

describe('thaw-snapshotter with containerd', () => {
  let before: Leftovers;
  let thaw: ThawDaemon;
  let containerd: Containerd;
  let registry: Registry;
  let cri: CriClient;
  let snapshots: SnapshotsClient;

  beforeAll(makeFixtures);
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
  /** Bytes of a blob that the registry sent. */
  const sent = async (digest: string) =>
    (await registry.settled())
      .filter((request: RegistryRequest) => request.method === 'GET' && request.uri.endsWith(digest))
      .reduce((sum, request) => sum + request.sent, 0);
  const digests = () => [...checkpoint.blobs.keys()];
  /** Lower directories of a container's root file system on the image. */
  const lowerDirs = async (key = 'probe') => {
    const committed = await snapshots.list('kind==committed');
    const parents = new Set(committed.map(({ parent }) => parent));
    const leaf = committed.find(({ name }) => !parents.has(name))?.name ?? '';
    const [mount] = await snapshots.view(key, leaf);
    await snapshots.remove(key);
    return (mount?.options.find((option) => option.startsWith('lowerdir=')) ?? '').slice(9).split(':');
  };
  const expectImages = (directory: string) => {
    for (const [name, content] of checkpoint.contents)
      expect(readFileSync(join(directory, name)).equals(content), name).toBe(true);
  };
  const locate = (lower: string[]) =>
    thaw.locate({ namespace: 'k8s.io', containerId: 'c', lowerDirs: lower });

  describe('checkpoint images', () => {
    it('are streamed, never downloaded by containerd, and verified', async () => {
      await pull(await push(registry.host, 'test/app', '1', built));
      const lower = await lowerDirs();
      expect(lower.length).toBe(6);
      for (const directory of lower.slice(3)) expect(readdirSync(directory)).toEqual([]);
      const found = await locate(lower);
      expect(found.id).toBe(checkpoint.id);
      expect(Buffer.from(found.checkpointJson).equals(checkpoint.checkpointJson)).toBe(true);
      const { fetchedBytes } = await thaw.awaitCheckpoint(found.id);
      expectImages(found.imagesDir);
      // The stream and the index are all that left the registry; tar headers and padding did not.
      const [indexLayer, ...dataLayers] = digests();
      const streamed = await Promise.all(dataLayers.map(sent));
      expect(streamed.reduce((sum, bytes) => sum + bytes, 0)).toBe(fetchedBytes);
      expect(fetchedBytes).toBe(4096 + 20 * MIB + 12 * MIB);
      expect(await sent(indexLayer ?? '')).toBe(checkpoint.location.offset + checkpoint.location.length);
      const [status] = await thaw.checkpoints();
      expect(status).toMatchObject({ id: checkpoint.id, imageRef: `${registry.host}/test/app:1`, state: 2 });
    });

    it('are fetched once for any number of pulls and namespaces', async () => {
      const reference = await push(registry.host, 'test/app', '1', built);
      await Promise.all([pull(reference), pull(reference)]);
      await thaw.awaitCheckpoint(checkpoint.id);
      // What containerd sends for the first layer from another namespace.
      const [layer] = digests();
      const again = snapshots.prepare(`other/7/extract-1 ${layer}`, '', {
        'containerd.io/snapshot.ref': layer ?? '',
        [INDEX_ANNOTATION]: checkpoint.annotation,
        'containerd.io/snapshot/cri.image-ref': reference,
        'containerd.io/snapshot/cri.layer-digest': layer ?? '',
      });
      await expect(again).rejects.toMatchObject({ code: Code.alreadyExists });
      expect(await sent(digests()[2] ?? '')).toBe(12 * MIB);
    });

    it('take their cache with them when they are removed', async () => {
      const reference = await push(registry.host, 'test/app', '1', built);
      await pull(reference);
      await thaw.awaitCheckpoint(checkpoint.id);
      await cri.removeImage(reference);
      await until('the snapshots to be gone', async () => (await snapshots.list()).length === 0);
      await until('the cache to be gone', async () => (await thaw.checkpoints()).length === 0);
      // It is not to be found from before its files are removed.
      const files = () => readdirSync(join(thaw.root, 'cache', checkpoint.id.slice(7)));
      await until('its files to be gone', () => files().length === 1);
      expect(files()).toEqual(['lock']);
    });

    it('do not unpack the base again if the node has it', async () => {
      await pull(await push(registry.host, 'test/base', '1', image([base, second], { cmd: ['sh'] })));
      const baseBytes = await sent(base.digest);
      await pull(await push(registry.host, 'test/app', '1', built));
      expect(await sent(base.digest)).toBe(baseBytes);
      const committed = await snapshots.list('kind==committed');
      // Two of the base, and checkpoint, base and diff above.
      expect(committed.length).toBe(2 + 6);
      const directories = readdirSync(join(thaw.root, 'snapshots')).filter((name) => /^\d+$/.test(name));
      expect(directories.length).toBe(2 + 3 + 1);
      const ran = await ctr(
        ...['-n', 'k8s.io', 'run', '--rm', '--snapshotter', 'thaw', `${registry.host}/test/app:1`, 'x'],
        ...['sh', '-c', 'cat /etc/motd; wc -c < /srv/data'],
      );
      expect(ran.stdout).toBe('diff4096\n');
    });

    it('are refused above another base', async () => {
      const other = await layer([{ path: 'etc/motd', content: 'other' }]);
      const { manifest, config, layers } = built;
      const text = manifest.bytes.toString().replaceAll(second.digest, other.digest);
      const changedConfig = blob(
        config.mediaType,
        Buffer.from(config.bytes.toString().replaceAll(second.digest, other.digest)),
      );
      const changed: Image = {
        layers: layers.map((l) => (l === second ? other : l)),
        config: changedConfig,
        manifest: blob(
          manifest.mediaType,
          Buffer.from(
            JSON.stringify({
              ...JSON.parse(text),
              config: {
                mediaType: changedConfig.mediaType,
                digest: changedConfig.digest,
                size: changedConfig.bytes.length,
              },
              layers: (JSON.parse(text) as { layers: { digest: string }[] }).layers.map((l) =>
                l.digest === other.digest ? { ...l, size: other.bytes.length } : l,
              ),
            }),
          ),
        ),
      };
      await pull(await push(registry.host, 'test/app', '1', changed));
      await expect(locate(await lowerDirs())).rejects.toMatchObject({
        code: Code.failedPrecondition,
        message: expect.stringContaining('the base image differs'),
      });
    });

    it('whose index cannot be read are pulled as ordinary ones', async () => {
      // Another annotation than the layers have: the digest does not fit.
      const text = built.manifest.bytes.toString().replaceAll(checkpoint.id, `sha256:${'0'.repeat(64)}`);
      const manifest = blob(built.manifest.mediaType, Buffer.from(text));
      await pull(await push(registry.host, 'test/app', '1', { ...built, manifest }));
      expect((await snapshots.list('kind==committed')).length).toBe(6);
      expect(await thaw.checkpoints()).toEqual([]);
      // What was unpacked restores all the same, from its files.
      const found = await locate(await lowerDirs());
      expect(await thaw.awaitCheckpoint(found.id)).toMatchObject({ fetchedBytes: 0 });
      expectImages(found.imagesDir);
    });

    it('with a corrupt chunk fail the wait with a reason', async () => {
      const reference = await push(registry.host, 'test/app', '1', built);
      const digest = digests()[2] ?? '';
      const stored = `${registry.dir}/data/docker/registry/v2/blobs/sha256/${digest.slice(7, 9)}/${digest.slice(7)}/data`;
      const bytes = readFileSync(stored);
      bytes.writeUInt8(bytes.readUInt8(5 * MIB) ^ 1, 5 * MIB);
      writeFileSync(stored, bytes);
      await pull(reference);
      const found = await locate(await lowerDirs());
      await expect(thaw.awaitCheckpoint(found.id)).rejects.toMatchObject({
        code: Code.dataLoss,
        message: expect.stringMatching(
          /^Cannot use the checkpoint: a chunk of "pages-2.img" from .* is corrupt/,
        ),
      });
      expect((await thaw.checkpoints())[0]).toMatchObject({ state: 3 });
    });

    it('survive kill -9 of the daemon: what was complete needs no registry, what was not is fetched anew', async () => {
      await pull(await push(registry.host, 'test/app', '1', built));
      await thaw.kill();
      await thaw.restart();
      await thaw.awaitCheckpoint(checkpoint.id);
      const marker = join(thaw.root, 'cache', checkpoint.id.slice(7), 'complete');
      await until('the cache to be on disk', () => readFileSync(marker, 'utf8') === `${checkpoint.id}\n`);
      await thaw.kill();
      await registry.halt();
      await thaw.restart();
      const found = await locate(await lowerDirs());
      expect((await thaw.awaitCheckpoint(found.id)).fetchedBytes).toBe(0);
      expectImages(found.imagesDir);
    });

    it('are not evicted while somebody holds the lock', async () => {
      await pull(await push(registry.host, 'test/app', '1', built));
      const found = await locate(await lowerDirs());
      await thaw.awaitCheckpoint(found.id);
      const fd = openSync(found.lockFile, 'r');
      try {
        expect(native.tryLock(fd, false)).toBe(true);
        await expect(thaw.evict(found.id)).rejects.toMatchObject({ code: Code.failedPrecondition });
        expectImages(found.imagesDir);
      } finally {
        closeSync(fd);
      }
      expect(await thaw.evict(found.id)).toBeGreaterThan(32 * MIB);
      // Gone from the node, but not from the image: it comes again.
      await locate(await lowerDirs());
      await thaw.awaitCheckpoint(found.id);
      expectImages(found.imagesDir);
    });

    it('that another snapshotter unpacked are decoded from their files', async () => {
      await importImage('test.local/app:1', built, 'overlayfs');
      await ctr(
        'run',
        '-d',
        '--null-io',
        '--snapshotter',
        'overlayfs',
        'test.local/app:1',
        'c',
        'sleep',
        '60',
      );
      const overlay = new SnapshotsClient(containerd.socket, {
        snapshotter: 'overlayfs',
        namespace: 'default',
      });
      try {
        const [mount] = await overlay.mounts('c');
        const lower = (mount?.options.find((option) => option.startsWith('lowerdir=')) ?? '')
          .slice(9)
          .split(':');
        const request = { namespace: 'default', containerId: 'c', lowerDirs: lower };
        // The daemon asks its own configured containerd, which is none here.
        await expect(thaw.locate(request)).rejects.toMatchObject({ code: Code.unavailable });
        const other = await ThawDaemon.start({ containerd_address: containerd.socket });
        try {
          const found = await other.locate(request);
          expect(await other.awaitCheckpoint(found.id)).toEqual({
            fetchedBytes: 0,
            localBytes: 4096 + 32 * MIB,
          });
          expectImages(found.imagesDir);
          await expect(other.locate({ ...request, containerId: 'x' })).rejects.toMatchObject({
            code: Code.notFound,
          });
        } finally {
          await other.stop();
        }
      } finally {
        overlay.close();
      }
    });
  });
});
