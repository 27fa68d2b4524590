/** Chunks that somebody waits for, through a daemon and a registry that come and go. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { INDEX_ANNOTATION } from '../checkpoint/annotation.ts';
import { chainIds } from '../checkpoint/chain-id.ts';
import { decodeIndex } from '../checkpoint/index-format.ts';
import { seeded } from '../checkpoint/random.test-helper.ts';
import { Code } from '../proto/status.ts';
import { fakeCheckpoint } from '../snapshotter/fake-checkpoint.test-helper.ts';
import { SnapshotsClient } from './conformance/snapshots-client.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import { Gate } from './lib/gate.ts';
import {
  assertNothingLeft,
  type Blob,
  image,
  type Leftovers,
  push,
  Registry,
  takeStock,
  until,
} from './lib/index.ts';

const CHUNK = 1 << 20;
const PER_LAYER = 24;
const random = seeded(23);
const checkpoint = fakeCheckpoint(
  [0, 1].map((layer) => [
    {
      name: `pages-${layer}.img`,
      size: PER_LAYER * CHUNK,
      chunks: Array.from({ length: PER_LAYER }, (_, i) => ({ at: i * CHUNK, bytes: random.bytes(CHUNK) })),
    },
  ]),
);
const layers = [...checkpoint.blobs].map(
  ([digest, bytes]): Blob => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest, bytes }),
);
const [indexLayer, firstLayer, secondLayer] = layers.map(({ digest }) => digest) as [string, string, string];
/** The node has its own loopback. */
const METRICS = '127.0.0.1:9417';
/** Of the second layer. */
const WANTED = [PER_LAYER + 7, PER_LAYER + 20];

let before: Leftovers;
let thaw: ThawDaemon;
let registry: Registry;
let gate: Gate;

beforeEach(async () => {
  before = takeStock();
  thaw = await ThawDaemon.start();
  registry = await Registry.start();
  gate = await Gate.start(registry.host);
  await push(registry.host, 'test/app', '1', image(layers, { cmd: ['sh'] }));
});
afterEach(async () => {
  await gate.stop();
  await registry.stop();
  await thaw.stop();
  await assertNothingLeft(before);
});

/** What containerd asks for when it pulls the image from `host`. */
async function prepareLayers(host: string): Promise<void> {
  const snapshots = new SnapshotsClient(thaw.socket);
  try {
    const chains = chainIds([indexLayer, firstLayer, secondLayer]);
    for (const [i, { digest }] of layers.entries()) {
      const prepared = snapshots.prepare(`k8s.io/${i}/extract ${chains[i]}`, chains[i - 1] ?? '', {
        'containerd.io/snapshot.ref': chains[i] ?? '',
        [INDEX_ANNOTATION]: checkpoint.annotation,
        'containerd.io/snapshot/cri.image-ref': `${host}/test/app:1`,
        'containerd.io/snapshot/cri.layer-digest': digest,
      });
      await expect(prepared).rejects.toMatchObject({ code: Code.alreadyExists });
    }
  } finally {
    snapshots.close();
  }
}

/** Bytes of a blob that the registry sent. */
const sent = async (digest: string) =>
  (await registry.settled())
    .filter(({ method, uri }) => method === 'GET' && uri.endsWith(digest))
    .reduce((sum, request) => sum + request.sent, 0);

const entry = () => join(thaw.root, 'cache', checkpoint.id.slice('sha256:'.length));

function expectChunks(ordinals: readonly number[]): void {
  for (const [layer, [name, content]] of [...checkpoint.contents].entries()) {
    const actual = readFileSync(join(entry(), 'files', name));
    for (const ordinal of ordinals) {
      const at = (ordinal - layer * PER_LAYER) * CHUNK;
      if (at < 0 || at >= content.length) continue;
      expect(actual.subarray(at, at + CHUNK).equals(content.subarray(at, at + CHUNK)), `${ordinal}`).toBe(
        true,
      );
    }
  }
}

/** One number of what the daemon tells Prometheus. */
async function metric(name: string): Promise<number> {
  const text = await (await fetch(`http://${METRICS}/metrics`)).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  return Number(line?.slice(name.length));
}

const isOf = (digest: string) => (request: { uri: string }) => request.uri.endsWith(digest);

it('a daemon that is killed while somebody waits goes on, and fetches only what is missing', async () => {
  gate.hold(isOf(secondLayer));
  await prepareLayers(gate.host);
  const waiting = thaw.want(checkpoint.id, WANTED);
  const refused = expect(waiting).rejects.toMatchObject({ code: Code.unavailable });
  await until('the first layer to be here', async () => {
    const { chunks } = await thaw.presence(checkpoint.id, PER_LAYER - 1);
    return chunks === PER_LAYER;
  });
  // A daemon that is killed loses what was not saved yet.
  await until('the map to be saved', () => existsSync(join(entry(), 'present')), 20_000);
  const asked = gate.waiting.map(({ range }) => range);
  await thaw.kill();
  await refused;

  gate.open();
  await thaw.restart();
  await thaw.want(checkpoint.id, WANTED);
  expectChunks(WANTED);
  await thaw.awaitCheckpoint(checkpoint.id);
  expectChunks([...Array(2 * PER_LAYER).keys()]);
  expect(await thaw.presence(checkpoint.id, 0)).toMatchObject({ chunks: 2 * PER_LAYER, complete: true });
  expect(await sent(firstLayer)).toBe(PER_LAYER * CHUNK);
  // On a slow machine a wanted chunk may overtake the range that was bringing it; nothing else comes twice.
  const second = await sent(secondLayer);
  expect([0, 1, 2].map((twice) => (PER_LAYER + twice) * CHUNK)).toContain(second);
  // They had been asked for by themselves, beside the stream.
  const single = ({ from, to }: { from: number; to: number }) => to - from + 1 === CHUNK;
  expect(asked.map(parseRange).filter(single).length).toBe(WANTED.length);
});

it('wanted chunks overtake the stream, and every chunk is sent once', async () => {
  await thaw.stop();
  thaw = await ThawDaemon.start({ fetch: { connections: 2 }, metrics: { address: METRICS } });
  // The stream hangs in both layers; single chunks pass.
  gate.hold(({ uri, range }) => {
    const { from, to } = parseRange(range);
    return !uri.endsWith(indexLayer) && to - from + 1 > CHUNK;
  });
  await prepareLayers(gate.host);
  await until('the stream to hang', () => gate.waiting.length === 2);
  expect(await metric('thaw_checkpoints{state="fetching"}')).toBe(1);
  // Ranges bring the first 16 chunks.
  const wanted = [PER_LAYER - 1, 2 * PER_LAYER - 1];
  await thaw.want(checkpoint.id, wanted);
  expectChunks(wanted);
  gate.open();
  await thaw.awaitCheckpoint(checkpoint.id);
  expect([await sent(firstLayer), await sent(secondLayer)]).toEqual([PER_LAYER * CHUNK, PER_LAYER * CHUNK]);
  expect(await metric('thaw_fetch_bytes_total{source="registry"}')).toBe(2 * PER_LAYER * CHUNK);
  expect(await metric('thaw_fetches_total{result="complete"}')).toBe(1);
});

it('a registry that is gone for some seconds is waited for', async () => {
  gate.hold(isOf(secondLayer));
  await prepareLayers(gate.host);
  await until('the stream to wait', () => gate.waiting.length > 0);
  await registry.halt();
  gate.open();
  const waiting = thaw.want(checkpoint.id, WANTED, 60_000);
  await until('an attempt to fail', () => thaw.events().some(({ msg }) => msg === 'fetch failed'), 20_000);
  // Others hear of it at once.
  await expect(thaw.awaitCheckpoint(checkpoint.id)).rejects.toMatchObject({ code: Code.unavailable });
  expect((await thaw.checkpoints())[0]).toMatchObject({ wantedChunks: WANTED.length });
  await registry.restart();
  await waiting;
  expectChunks(WANTED);
});

it('an index file lies beside the files, and a wrong question is refused', async () => {
  await prepareLayers(registry.host);
  await thaw.awaitCheckpoint(checkpoint.id);
  expect(decodeIndex(readFileSync(join(entry(), 'index'))).chunkCount).toBe(2 * PER_LAYER);
  await expect(thaw.want(checkpoint.id, [2 * PER_LAYER])).rejects.toMatchObject({
    code: Code.invalidArgument,
  });
  await expect(thaw.want(`sha256:${'0'.repeat(64)}`, [0])).rejects.toMatchObject({ code: Code.notFound });
});

function parseRange(range: string): { from: number; to: number } {
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range) ?? [];
  return { from: Number(from), to: Number(to) };
}
