/** Layers with everything that a layer can have, for comparing what shows them; and their image with lazy layers. */
import { chainIds } from '../../checkpoint/chain-id.ts';
import { LAYER_ANNOTATION, parseLayerAnnotation } from '../../checkpoint/lazy/index-layer.ts';
import { decodeLayerIndex, type LayerIndex } from '../../checkpoint/lazy/layer-index.ts';
import { type TestMember, tarOf } from '../../checkpoint/lazy/tar.test-helper.ts';
import { seeded } from '../../checkpoint/random.test-helper.ts';
import { createContext } from '../../cli/context.ts';
import { runConvertLazy } from '../../cli/convert-lazy/run.ts';
import { Code } from '../../proto/status.ts';
import type { SnapshotsClient } from '../conformance/snapshots-client.ts';
import { type Blob, blob } from './image.ts';

const LAYER = 'application/vnd.oci.image.layer.v1.tar';
const text = (content: string) => ({ content: Buffer.from(content) });

const ODD: TestMember[] = [
  { name: './', type: '5', mode: 0o755 },
  { name: 'odd/', type: '5', mode: 0o3750, uid: 12, mtime: 1_600_000_000 },
  { name: 'odd/\xff\xfe name', ...text('not UTF-8'), pax: { mtime: '1234567890.123456789' } },
  { name: 'odd/setuid', ...text('#!'), mode: 0o4755, uid: 5 },
  {
    name: 'odd/capable',
    ...text('x'),
    // CAP_NET_RAW, permitted and effective (linux/capability.h, vfs_cap_data).
    pax: { 'SCHILY.xattr.security.capability': `\x01\0\0\x02\0\x20${'\0'.repeat(14)}` },
  },
  {
    name: 'odd/attributes',
    ...text('y'),
    pax: { 'SCHILY.xattr.user.one': 'a\0b', 'SCHILY.xattr.user.two': 'v'.repeat(700) },
  },
  { name: 'odd/link-a', ...text('linked'), mtime: 77 },
  { name: 'odd/link-b', type: '1', linkName: 'odd/link-a', mtime: 77 },
  { name: 'odd/fifo', type: '6', mode: 0o600 },
  { name: 'odd/device', type: '3', device: [1, 3], mode: 0o666 },
  { name: 'odd/block', type: '4', device: [259, 300], mode: 0o660 },
  { name: 'odd/symlink', type: '2', linkName: `target/${'long/'.repeat(15)}` },
  { name: 'odd/zeros', content: Buffer.alloc(3 << 20) },
  { name: 'odd/large', content: Buffer.from(Array.from({ length: 700_001 }, (_, i) => (i * i) >> 7)) },
  { name: 'odd/empty', ...text('') },
  { name: 'odd/deep/', type: '5', mode: 0o700 },
  ...Array.from({ length: 3000 }, (_, i) => ({
    name: `odd/deep/${'n'.repeat(i % 90)}${i}`,
    ...text(`${i}`),
  })),
];

const TOP: TestMember[] = [
  { name: 'odd/.wh.fifo' },
  { name: 'odd/deep/.wh..wh..opq' },
  { name: 'odd/deep/only', ...text('opaque') },
  { name: 'odd/symlink/', type: '5', mode: 0o711 },
  { name: 'new/parent/file', ...text('without its directories') },
  { name: 'etc/motd', ...text('top') },
];

/** Hides all of ODD. */
const EMPTY: TestMember[] = [{ name: './', type: '5', mode: 0o755 }, { name: '.wh.odd' }];

/** Cannot be compressed: so many bytes are so many on the way. */
export const NOISE_BYTES = 24 << 20;
export const noise = seeded(11).bytes(NOISE_BYTES);

export const oddLayer = (): Blob => blob(LAYER, tarOf(ODD));
export const topLayer = (): Blob => blob(LAYER, tarOf(TOP));
export const emptyLayer = (): Blob => blob(LAYER, tarOf(EMPTY));
export const noiseLayer = (): Blob => blob(LAYER, tarOf([{ name: 'noise', content: noise }]));

/** Made as the CLI does it; throws if a layer stays as it is. */
export async function convertLazily(
  source: string,
  target: string,
  workDir: string,
  order?: string,
): Promise<void> {
  const printed: string[] = [];
  const write = (line: string) => printed.push(line);
  const context = createContext({ stdout: { write }, stderr: { write } }, new AbortController().signal, {});
  const options = { source, target, json: true, plainHttp: true, hostsDir: '', workDir, order };
  await runConvertLazy(options, context);
  if (printed.join('').includes('stays as it is')) throw new Error(printed.join(''));
}

/** What containerd asks for when it pulls the image from there; the chain IDs of its layers, bottom first. */
export async function pullLazily(
  snapshots: SnapshotsClient,
  image: LazyImage,
  reference: string,
): Promise<string[]> {
  const chains = chainIds([image.indexLayer.digest, ...image.layers.map(({ index }) => index.diffId)]);
  for (const [i, { digest, annotation }] of [image.indexLayer, ...image.layers].entries()) {
    const prepared = snapshots.prepare(`k8s.io/${i}/extract ${chains[i]}`, chains[i - 1] ?? '', {
      'containerd.io/snapshot.ref': chains[i] ?? '',
      [LAYER_ANNOTATION]: annotation,
      'containerd.io/snapshot/cri.image-ref': reference,
      'containerd.io/snapshot/cri.layer-digest': digest,
    });
    const refused = await prepared.then(
      () => undefined,
      (error: { code?: number }) => error.code,
    );
    if (refused !== Code.alreadyExists) throw new Error(`layer ${i} of ${reference} is not lazy`);
  }
  return chains;
}

export interface LazyImage {
  indexLayer: { digest: string; annotation: string };
  /** Bottom first. */
  layers: { digest: string; annotation: string; index: LayerIndex }[];
  blob(digest: string): Promise<Buffer>;
}

/** As the registry has it. */
export async function readLazyImage(host: string, repository: string, tag: string): Promise<LazyImage> {
  const get = (path: string) =>
    fetch(`http://${host}/v2/${repository}/${path}`, {
      headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
    });
  const read = async (digest: string) => Buffer.from(await (await get(`blobs/${digest}`)).arrayBuffer());
  const manifest = (await (await get(`manifests/${tag}`)).json()) as {
    layers: { digest: string; annotations: Record<string, string> }[];
  };
  const all = manifest.layers.map(({ digest, annotations }) => ({
    digest,
    annotation: annotations[LAYER_ANNOTATION] ?? '',
  }));
  const [indexLayer, ...lazy] = all;
  if (!indexLayer) throw new Error(`${repository}:${tag} has no layers`);
  const indexes = await read(indexLayer.digest);
  const layers = lazy.map((layer) => {
    const { offset, length } = parseLayerAnnotation(layer.annotation);
    return { ...layer, index: decodeLayerIndex(indexes.subarray(offset, offset + length)) };
  });
  return { indexLayer, layers, blob: read };
}
