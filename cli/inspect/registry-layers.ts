import type { DataLayer } from '../../checkpoint/index-format.ts';
import type { LayerSource } from '../../checkpoint/pack/index.ts';
import type { RegistryClient } from '../../checkpoint/registry/index.ts';
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';

/** One request fetches this much; a chunk is 1 MiB at most, and neighbours are asked for one after the other. */
const WINDOW_BYTES = 16 << 20;

/** Data layers in a registry, fetched window by window. The bytes are not verified here: each chunk's digest is. */
export function registryLayers(
  client: Pick<RegistryClient, 'readRange'>,
  repository: string,
  layers: readonly DataLayer[],
  signal: AbortSignal,
): LayerSource {
  const windows = new Map<number, { offset: number; bytes: Buffer }>();
  const fetchWindow = async (layer: number, offset: number, length: number) => {
    const found = layers[layer];
    const end = Math.min(Number(found?.size ?? 0), offset + Math.max(length, WINDOW_BYTES));
    if (found === undefined || offset + length > end)
      throw new CliError(Code.dataLoss, `Cannot read data layer ${layer}: it ends before ${offset + length}`);
    const parts: Buffer[] = [];
    for await (const part of client.readRange(repository, found.digest, offset, end - offset, { signal }))
      parts.push(Buffer.from(part));
    const window = { offset, bytes: Buffer.concat(parts) };
    windows.set(layer, window);
    return window;
  };
  return {
    close: async () => windows.clear(),
    async read(layer, offset, length) {
      let window = windows.get(layer);
      if (
        window === undefined ||
        offset < window.offset ||
        offset + length > window.offset + window.bytes.length
      )
        window = await fetchWindow(layer, offset, length);
      const start = offset - window.offset;
      return window.bytes.subarray(start, start + length);
    },
  };
}
