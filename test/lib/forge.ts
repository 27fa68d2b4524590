/** Checkpoint images as somebody with bad intentions, or bad luck, would make them. */
import {
  formatIndexAnnotation,
  INDEX_ANNOTATION,
  parseIndexAnnotation,
} from '../../checkpoint/annotation.ts';
import { ChunkTable } from '../../checkpoint/chunk-table.ts';
import { decodeIndex, encodeIndex } from '../../checkpoint/index-format.ts';
import { buildIndexLayer, CHECKPOINT_JSON_OFFSET } from '../../checkpoint/layer-layout.ts';
import { type Blob, blob, type Image, push } from './image.ts';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  annotations?: Record<string, string>;
}

interface Manifest {
  config: Descriptor;
  layers: Descriptor[];
}

export interface CheckpointParts {
  /** checkpoint.json, parsed. */
  facts: { formatVersion: number; layers: { base: FactsLayer[]; diff: FactsLayer | null } };
  base: Blob[];
  baseDiffIds: string[];
  diff: { layer: Blob; diffId: string } | null;
  data: Blob[];
  /** Sizes of checkpoint files as the index gives them; a smaller one leaves the file without chunks. */
  sizes: Map<string, bigint>;
}

interface FactsLayer {
  digest: string;
  diffId: string;
  mediaType: string;
  size: number;
}

/** Pulls a checkpoint image, changes its parts, and pushes what comes out under another tag, with all digests right. */
export async function forge(
  host: string,
  repository: string,
  [from, to]: [string, string],
  change: (parts: CheckpointParts) => void | Promise<void>,
): Promise<string> {
  const base = `http://${host}/v2/${repository}`;
  const bytesOf = async (path: string, accept = '*/*') => {
    const answer = await fetch(`${base}/${path}`, {
      headers: { accept },
      signal: AbortSignal.timeout(30_000),
    });
    if (!answer.ok) throw new Error(`${path} was answered with ${answer.status}`);
    return Buffer.from(await answer.arrayBuffer());
  };
  const manifest = JSON.parse((await bytesOf(`manifests/${from}`, MANIFEST)).toString()) as Manifest;
  const config = JSON.parse((await bytesOf(`blobs/${manifest.config.digest}`)).toString()) as {
    rootfs: { type: string; diff_ids: string[] };
    history?: unknown;
  };
  const layers = await Promise.all(
    manifest.layers.map(async ({ mediaType, digest }) => blob(mediaType, await bytesOf(`blobs/${digest}`))),
  );
  const marked = manifest.layers.filter((layer) => layer.annotations?.[INDEX_ANNOTATION]).length;
  const location = parseIndexAnnotation(manifest.layers[0]?.annotations?.[INDEX_ANNOTATION] ?? '');
  const indexLayer = layers[0] as Blob;
  const index = decodeIndex(indexLayer.bytes.subarray(location.offset, location.offset + location.length));
  const { offset, length } = index.checkpointJson;
  const facts = JSON.parse(
    indexLayer.bytes.subarray(offset, offset + length).toString(),
  ) as CheckpointParts['facts'];
  const hasDiff = facts.layers.diff !== null;
  const upper = layers.slice(marked);
  const upperIds = config.rootfs.diff_ids.slice(marked);
  const parts: CheckpointParts = {
    facts,
    base: hasDiff ? upper.slice(0, -1) : upper,
    baseDiffIds: hasDiff ? upperIds.slice(0, -1) : upperIds,
    diff: hasDiff ? { layer: upper.at(-1) as Blob, diffId: upperIds.at(-1) ?? '' } : null,
    data: layers.slice(1, marked),
    sizes: new Map(index.files.map(({ name, size }) => [name, size])),
  };
  await change(parts);

  const json = Buffer.from(JSON.stringify(parts.facts));
  const checkpointJson = {
    offset: CHECKPOINT_JSON_OFFSET,
    length: json.length,
    digest: blob('', json).digest,
  };
  const files = index.files.map(({ name, size, chunks }) => {
    const cut = parts.sizes.get(name) ?? size;
    return { name, size: cut, chunks: cut < size ? new ChunkTable(Buffer.alloc(0)) : chunks };
  });
  // A file that is cut has no chunks, and all others have other ordinals then.
  const isCut = files.some(({ chunks }, i) => chunks !== index.files[i]?.chunks);
  const accessOrder = isCut ? [] : index.accessOrder;
  const newIndex = encodeIndex({ ...index, files, accessOrder, checkpointJson });
  const built = buildIndexLayer(json, newIndex);
  const newIndexLayer = blob(indexLayer.mediaType, built.bytes);
  const annotation = formatIndexAnnotation({
    blob: newIndexLayer.digest,
    offset: built.indexOffset,
    length: built.indexLength,
    digest: blob('', Buffer.from(newIndex)).digest,
  });
  const checkpoint = [newIndexLayer, ...parts.data];
  const above = [...parts.base, ...(parts.diff ? [parts.diff.layer] : [])];
  const newConfig = blob(
    manifest.config.mediaType,
    Buffer.from(
      JSON.stringify({
        ...config,
        history: undefined,
        rootfs: {
          type: 'layers',
          diff_ids: [
            ...checkpoint.map((layer) => layer.digest),
            ...parts.baseDiffIds,
            ...(parts.diff ? [parts.diff.diffId] : []),
          ],
        },
      }),
    ),
  );
  const describe = ({ mediaType, digest, bytes }: Blob): Descriptor => ({
    mediaType,
    digest,
    size: bytes.length,
  });
  const newManifest = blob(
    MANIFEST,
    Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: MANIFEST,
        config: describe(newConfig),
        layers: [
          ...checkpoint.map((layer) => ({
            ...describe(layer),
            annotations: { [INDEX_ANNOTATION]: annotation },
          })),
          ...above.map(describe),
        ],
      }),
    ),
  );
  const image: Image = { manifest: newManifest, config: newConfig, layers: [...checkpoint, ...above] };
  return push(host, repository, to, image);
}

export function factsLayer({ mediaType, digest, bytes }: Blob): FactsLayer {
  return { mediaType, digest, diffId: digest, size: bytes.length };
}
