/**
 * A checkpoint image that was unpacked as ordinary files: chunk data lies in `.thaw/chunks-<ordinal>` of the layers'
 * directories, at its place in the layer's tar less the two tar headers before it (docs/image-format.md, "Data layer").
 */
import { DATA_START, dataFileName, THAW_DIRECTORY } from '../../checkpoint/layer-layout.ts';
import { Code } from '../../proto/status.ts';
import { dataLoss, SnapshotError } from '../error.ts';
import { BeneathFile, type OpenBeneath } from './beneath.ts';
import type { BlobName, BlobSource, SourceSpec } from './blob-source.ts';

const PIECE = 1 << 20;

export class LocalSource implements BlobSource {
  readonly kind = 'local';
  readonly description: string;
  readonly #directories: readonly string[];
  readonly #openBeneath: OpenBeneath;

  /** `directories`: one for each data layer, in the index's order. */
  constructor(directories: readonly string[], openBeneath: OpenBeneath) {
    this.#directories = directories;
    this.#openBeneath = openBeneath;
    this.description = directories[0] ?? 'files on this node';
  }

  get spec(): SourceSpec {
    return { kind: 'unpacked', directories: this.#directories };
  }

  async *read(
    { dataLayer }: BlobName,
    offset: number,
    length: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const directory = dataLayer === undefined ? undefined : this.#directories[dataLayer];
    if (directory === undefined || dataLayer === undefined)
      throw new SnapshotError(Code.internal, 'Only data layers are read from unpacked files');
    const name = `${THAW_DIRECTORY}/${dataFileName(dataLayer)}`;
    const file = await BeneathFile.open(this.#openBeneath, directory, name);
    try {
      for (let done = 0; done < length; ) {
        signal.throwIfAborted();
        const piece = Buffer.allocUnsafe(Math.min(PIECE, length - done));
        const count = await file.read(piece, offset - DATA_START + done);
        if (count === 0)
          throw dataLoss(
            `Cannot read the checkpoint: "${name}" in ${directory} is cut off; pull the image again`,
          );
        done += count;
        yield piece.subarray(0, count);
      }
    } finally {
      await file.close();
    }
  }
}
