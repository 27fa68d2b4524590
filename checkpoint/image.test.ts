import { describe, expect, test } from 'vitest';
import { INDEX_ANNOTATION } from './annotation.ts';
import { digestOf } from './digest.ts';
import { sampleFacts } from './facts.test-helper.ts';
import type { LayerFacts } from './facts.ts';
import { type ComposeInput, composeImage } from './image.ts';
import { LAYER_ANNOTATION } from './lazy/index-layer.ts';
import { imageConfigSchema, manifestSchema, parseDocument } from './registry/manifest.ts';
import { mediaTypes } from './registry/media-types.ts';

function layer(name: string, mediaType: string = mediaTypes.ociLayerGzip): LayerFacts {
  return { digest: digestOf(`${name} blob`), diffId: digestOf(name), mediaType, size: name.length };
}

function config(diffIds: string[], history?: unknown[]): Buffer {
  return Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'arm64',
      variant: 'v8',
      config: { Cmd: ['/server'], Labels: { kept: 'yes' } },
      rootfs: { type: 'layers', diff_ids: diffIds },
      ...(history ? { history } : {}),
    }),
  );
}

const index = { digest: digestOf('index'), size: 4096, annotation: 'v1,…' };
const data = [
  { digest: digestOf('d0'), size: 1 },
  { digest: digestOf('d1'), size: 2 },
];
const [a, b] = [layer('a'), layer('b')];
const diff = layer('diff', mediaTypes.ociLayerZstd);
const ids = (...layers: LayerFacts[]) => layers.map((l) => l.diffId);

function compose(over: Partial<ComposeInput> = {}) {
  const image = composeImage({
    config: config(ids(a, b)),
    baseStart: 0,
    base: [a, b],
    diff,
    index,
    data,
    facts: sampleFacts(3),
    ...over,
  });
  return {
    ...image,
    read: {
      config: parseDocument(imageConfigSchema, image.config.bytes, 'config'),
      manifest: parseDocument(manifestSchema, image.manifest.bytes, 'manifest'),
    },
  };
}

const layerEntries = (history: readonly { empty_layer?: boolean | undefined }[] | undefined) =>
  (history ?? []).filter((entry) => entry.empty_layer !== true).length;

describe('composeImage', () => {
  test('keeps the annotations of lazy base layers, and gives others none', () => {
    const { read } = compose({ lazy: new Map([[b.digest, 'where']]) });
    expect(read.manifest.layers.slice(3).map(({ annotations }) => annotations)).toEqual([
      undefined,
      { [LAYER_ANNOTATION]: 'where' },
      undefined,
    ]);
  });

  test('orders checkpoint layers, base layers, rootfs diff', () => {
    const { read } = compose();
    expect(read.manifest.layers.map((l) => l.digest)).toEqual([
      index.digest,
      ...data.map((d) => d.digest),
      a.digest,
      b.digest,
      diff.digest,
    ]);
    expect(read.config.rootfs.diff_ids).toEqual([
      index.digest,
      ...data.map((d) => d.digest),
      ...ids(a, b, diff),
    ]);
  });

  test('marks every checkpoint layer, and no other, with the place of the index', () => {
    const { layers } = compose().read.manifest;
    expect(layers.map((l) => l.annotations?.[INDEX_ANNOTATION])).toEqual([
      ...Array(3).fill(index.annotation),
      ...Array(3).fill(undefined),
    ]);
    expect(layers.slice(0, 3).every((l) => l.mediaType === mediaTypes.ociLayer)).toBe(true);
  });

  test('keeps what the config says about running it', () => {
    const { read } = compose();
    expect(read.config).toMatchObject({
      architecture: 'arm64',
      variant: 'v8',
      config: { Cmd: ['/server'], Labels: { kept: 'yes' } },
      created: '2026-01-02T03:04:05Z',
    });
  });

  test('descriptors name the bytes', () => {
    const { config: c, manifest: m, read } = compose();
    expect(c.descriptor).toEqual({
      mediaType: mediaTypes.ociConfig,
      digest: digestOf(c.bytes),
      size: c.bytes.length,
    });
    expect(read.manifest.config).toEqual(c.descriptor);
    expect(m.descriptor.digest).toBe(digestOf(m.bytes));
  });

  test('without a diff the base is on top', () => {
    const { read } = compose({ diff: null });
    expect(read.manifest.layers.at(-1)?.digest).toBe(b.digest);
    expect(layerEntries(read.config.history)).toBe(5);
  });

  test("gives Docker's layers their OCI names, and refuses what has none", () => {
    const docker = layer('docker', mediaTypes.dockerLayerGzip);
    const { read } = compose({ config: config(ids(docker)), base: [docker] });
    expect(read.manifest.layers.at(-2)).toEqual({
      mediaType: mediaTypes.ociLayerGzip,
      digest: docker.digest,
      size: docker.size,
    });
    const foreign = layer('foreign', 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip');
    expect(() => compose({ config: config(ids(foreign)), base: [foreign] })).toThrow('cannot hold');
  });

  test('aligns the history with the layers and keeps steps without one', () => {
    const history = [
      { created_by: 'ADD a' },
      { created_by: 'ENV', empty_layer: true },
      { created_by: 'COPY b' },
      { created_by: 'CMD', empty_layer: true },
    ];
    const { read } = compose({ config: config(ids(a, b), history) });
    expect(layerEntries(read.config.history)).toBe(read.manifest.layers.length);
    expect(read.config.history?.slice(3, 7)).toEqual(history);
  });

  test('replaces a history that does not match', () => {
    const { read } = compose({ config: config(ids(a, b), [{ created_by: 'squashed' }]) });
    expect(layerEntries(read.config.history)).toBe(read.manifest.layers.length);
  });

  test('a checkpoint of a restored container drops the old checkpoint and the old diff', () => {
    const first = compose({
      config: config(ids(a, b), [{ created_by: 'ADD a' }, { created_by: 'COPY b' }]),
    });
    const second = compose({ config: first.config.bytes, baseStart: 3 });
    expect(second.read.manifest.layers).toEqual(first.read.manifest.layers);
    expect(second.read.config).toEqual(first.read.config);
  });

  test('refuses layers that are not those of the config', () => {
    for (const wrong of [{ base: [b, a] }, { baseStart: 1 }, { base: [a, b, diff] }, { baseStart: -1 }])
      expect(() => compose(wrong)).toThrow('base layers are not those');
  });

  test('does not make containerd take it for an archive of its own', () => {
    const facts = sampleFacts(3);
    facts.annotations['org.criu.checkpoint.container.name'] = 'server';
    facts.annotations['something.else'] = 'x';
    expect(compose({ facts }).read.manifest.annotations).toEqual({
      'org.criu.checkpoint.engine.name': 'containerd',
      'org.opencontainers.image.base.name': 'registry.example/server:1',
      'thaw.dev/verified': 'false',
    });
  });

  test('says in the manifest that it was verified', () => {
    const { annotations } = compose({ facts: { ...sampleFacts(3), verified: true } }).read.manifest;
    expect(annotations).toMatchObject({ 'thaw.dev/verified': 'true' });
  });
});
