/** A layer's tar on disk, from its blob in a registry. */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import {
  type Descriptor,
  mediaTypes,
  ociLayerType,
  type RegistryClient,
} from '../../checkpoint/registry/index.ts';
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';

export interface LayerBlob {
  client: RegistryClient;
  repository: string;
  descriptor: Descriptor;
  diffId: string;
}

/** Writes the tar, checked against blob digest and diff ID, and answers how long it is. */
export async function unpackLayer(
  { client, repository, descriptor, diffId }: LayerBlob,
  path: string,
  signal: AbortSignal,
): Promise<number> {
  const hash = createHash('sha256');
  let bytes = 0;
  async function* hashed(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const part of source) {
      hash.update(part);
      bytes += part.length;
      yield part;
    }
  }
  const blob = Readable.from(client.readBlob(repository, descriptor, { signal }));
  const file = createWriteStream(path, { flags: 'wx', mode: 0o600 });
  const decoder = decoderOf(descriptor.mediaType);
  if (decoder) await pipeline(blob, decoder, hashed, file, { signal });
  else await pipeline(blob, hashed, file, { signal });
  if (`sha256:${hash.digest('hex')}` !== diffId)
    throw new CliError(
      Code.dataLoss,
      `Cannot convert the image: layer ${descriptor.digest} does not decode to what the image's configuration says`,
    );
  return bytes;
}

function decoderOf(mediaType: string): Transform | undefined {
  switch (ociLayerType(mediaType)) {
    case mediaTypes.ociLayer:
      return undefined;
    case mediaTypes.ociLayerGzip:
      return createGunzip();
    case mediaTypes.ociLayerZstd:
      return createZstdDecompress();
    default:
      throw new CliError(
        Code.invalidArgument,
        `Cannot convert the image: it has a layer of type "${mediaType.slice(0, 100)}"`,
      );
  }
}
