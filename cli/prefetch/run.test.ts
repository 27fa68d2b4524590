import { expect, it } from 'vitest';
import { formatIndexAnnotation, INDEX_ANNOTATION } from '../../checkpoint/annotation.ts';
import { formatLayerAnnotation, LAYER_ANNOTATION } from '../../checkpoint/lazy/index-layer.ts';
import { checkpointOf, lazyLayersOf } from './run.ts';

const digest = (char: string) => `sha256:${char.repeat(64)}`;
const layer = (annotations?: Record<string, string>) => ({
  mediaType: 'application/vnd.oci.image.layer.v1.tar',
  digest: digest('c'),
  size: 1,
  ...(annotations && { annotations }),
});

it('knows a checkpoint image by its bottom layer', () => {
  const location = { blob: digest('a'), offset: 1024, length: 10, digest: digest('b') };
  const annotated = layer({ [INDEX_ANNOTATION]: formatIndexAnnotation(location) });
  expect(checkpointOf({ layers: [annotated, layer()] })).toBe(digest('b'));
  expect(checkpointOf({ layers: [layer(), annotated] })).toBeUndefined();
  expect(checkpointOf({ layers: [] })).toBeUndefined();
});

it('knows lazy layers by their annotations, and the layer with their indexes is none', () => {
  const indexes = { blob: digest('a'), offset: 0, length: 2048, digest: digest('a') };
  const lazy = (char: string) => ({ blob: digest('a'), offset: 1024, length: 10, digest: digest(char) });
  const annotated = (location: typeof indexes) =>
    layer({ [LAYER_ANNOTATION]: formatLayerAnnotation(location) });
  const layers = [annotated(indexes), annotated(lazy('d')), layer(), annotated(lazy('e'))];
  expect(lazyLayersOf({ layers })).toEqual([digest('d'), digest('e')]);
});
