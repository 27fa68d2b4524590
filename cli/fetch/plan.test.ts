import { expect, it } from 'vitest';
import type { Manifest } from '../../checkpoint/registry/index.ts';
import { blobsOf, indexGcLabels, manifestGcLabels, sourceLabel } from './plan.ts';

const descriptor = (char: string, size: number) => ({
  mediaType: 'x',
  digest: `sha256:${char.repeat(64)}`,
  size,
});
const manifest: Manifest = {
  schemaVersion: 2,
  config: descriptor('c', 1),
  layers: [descriptor('a', 2), descriptor('b', 3), descriptor('a', 2)],
};

it("names every child for containerd's garbage collector", () => {
  expect(manifestGcLabels(manifest)).toEqual({
    'containerd.io/gc.ref.content.config': manifest.config.digest,
    'containerd.io/gc.ref.content.l.0': descriptor('a', 2).digest,
    'containerd.io/gc.ref.content.l.1': descriptor('b', 3).digest,
    'containerd.io/gc.ref.content.l.2': descriptor('a', 2).digest,
  });
  const chosen = descriptor('b', 3).digest;
  expect(indexGcLabels(manifest.layers, chosen)).toEqual({ 'containerd.io/gc.ref.content.m.1': chosen });
});

it('wants each blob once', () => {
  const blobs = blobsOf(manifest, sourceLabel('r:5000', 'team/a'));
  expect(blobs.map(({ digest }) => digest[7])).toEqual(['c', 'a', 'b']);
  expect(blobs[0]?.labels).toEqual({ 'containerd.distribution.source.r:5000': 'team/a' });
});
