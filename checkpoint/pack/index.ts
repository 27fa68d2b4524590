/**
 * Packing a dump into layer tars and reading them back. May be called from cli/ and tests; runs its own threads.
 */
export { decodeChunk } from './decode-chunk.ts';
export { type LayerSource, openTarLayers, openUnpackedLayers, verifyLayerFile } from './layer-source.ts';
export {
  DEFAULT_CHUNK_BYTES,
  type PackedData,
  type PackedIndex,
  type PackedLayer,
  type PackOptions,
  type PackProgress,
  packDataLayers,
  packIndexLayer,
  provisionalIndex,
} from './pack.ts';
export { type UnpackOptions, unpack, verifyChunks } from './unpack.ts';
