import { expect, it } from 'vitest';
import { formatIndexAnnotation, INDEX_ANNOTATION } from '../../checkpoint/annotation.ts';
import { checkpointOf } from './run.ts';

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
