/** Bounds of format version 1 (docs/image-format.md, "Limits"). A reader refuses what exceeds them. */
export const limits = {
  /** Encoded index. */
  indexBytes: 128 * 1024 * 1024,
  checkpointJsonBytes: 4 * 1024 * 1024,
  files: 65_536,
  nameBytes: 255,
  /** Bytes of one file and of all files together. */
  fileBytes: 16 * 2 ** 40,
  /** Data layers; the index layer is one more. */
  dataLayers: 1023,
  /** Stored bytes of one data layer: the largest multiple of 512 that ustar's size field (11 octal digits) holds. */
  dataLayerBytes: 8 * 2 ** 30 - 512,
  decodedChunkBytes: 1024 * 1024,
  /** Lazy layers whose reads an index has. */
  lazyLayers: 1024,
  /** Decoded EROFS image of a lazy base layer. */
  metadataBytes: 1024 * 1024 * 1024,
} as const;
