/** Where stored bytes of a checkpoint come from. */

export interface BlobSource {
  /** `remote`: what is read counts as fetched. `local`: files that are on this node already. */
  readonly kind: 'remote' | 'local';
  /** For people: the image reference, or the directory. Never credentials. */
  readonly description: string;
  /** How another thread opens the same source; undefined if it cannot. */
  readonly spec?: SourceSpec | undefined;
  /** How many of the bytes that it gave so far came from another host than the image's registry. */
  readonly mirroredBytes?: number;
  /**
   * Bytes [offset, offset + length) of a blob, in order, in pieces of any size, each valid until the next is asked for; not verified. Goes on by itself over
   * broken, short and stalled transfers, so an error is final for this attempt. `again`: they came before and were
   * wrong, so no copy but the original will do.
   */
  read(
    blob: BlobName,
    offset: number,
    length: number,
    signal: AbortSignal,
    again?: boolean,
  ): AsyncIterable<Uint8Array>;
}

export interface BlobName {
  /** Digest of the layer's blob. */
  digest: string;
  /** Which of the index's data layers it is; undefined for the index layer. */
  dataLayer: number | undefined;
}

export type SourceSpec =
  | { kind: 'image'; reference: string }
  /** One directory for each data layer. */
  | { kind: 'unpacked'; directories: readonly string[] };
