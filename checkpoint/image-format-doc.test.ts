import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseIndexAnnotation } from './annotation.ts';
import { digestOf } from './digest.ts';
import { decodeIndex, encodeIndex, openIndex } from './index-format.ts';
import { buildIndexLayer, CHECKPOINT_JSON_OFFSET } from './layer-layout.ts';
import { limits } from './limits.ts';
import { decodeChunk, type PackedData, packDataLayers } from './pack/index.ts';

/** docs/image-format.md shows real bytes; here they are made and read. */
const docPath = join(import.meta.dirname, '../docs/image-format.md');
let doc: string;
let packed: PackedData;
let dataLayer: Buffer;
let scratch: string;

const page = Buffer.alloc(4096, 'thaw');
const emptyJson = Buffer.from('{}');

beforeAll(async () => {
  doc = await readFile(docPath, 'utf8');
  scratch = await mkdtemp(join(tmpdir(), 'thaw-doc-'));
  const imagesDir = join(scratch, 'images');
  await mkdir(imagesDir);
  await writeFile(
    join(imagesDir, 'example.img'),
    Buffer.concat([Buffer.alloc(4096), page, Buffer.alloc(4096)]),
  );
  packed = await packDataLayers({ imagesDir, scratchDir: join(scratch, 'layers') });
  dataLayer = await readFile(packed.layers[0]?.path ?? '');
});

afterAll(() => rm(scratch, { recursive: true, force: true }));

/** The lines of a hex block, by its label. */
function block(label: string): string[] {
  const found = new RegExp(`\`\`\`hex ${label}\\n([^\`]*)\`\`\``).exec(doc)?.[1];
  if (found === undefined) throw new Error(`no block "${label}"`);
  return found.trim().split('\n');
}

const bytes = (label: string) => Buffer.from(block(label).join('').replace(/\s/g, ''), 'hex');

function encodeExample(): Uint8Array {
  return encodeIndex({
    dataLayers: packed.layers.map(({ digest, size }) => ({ digest, size: BigInt(size) })),
    files: packed.files,
    accessOrder: [0],
    checkpointJson: { offset: CHECKPOINT_JSON_OFFSET, length: 2, digest: digestOf(emptyJson) },
  });
}

test('the example is what the writer makes', () => {
  expect(bytes('index').equals(encodeExample())).toBe(true);
  expect(bytes('chunk').equals(dataLayer.subarray(1024, 1024 + 30))).toBe(true);
  expect(doc).toContain(digestOf(dataLayer));
  const head = Buffer.alloc(1024);
  for (const line of block('head')) {
    const [at = '', hex = ''] = line.split(':');
    Buffer.from(hex.replace(/\s/g, ''), 'hex').copy(head, Number.parseInt(at, 16));
  }
  expect(head.equals(dataLayer.subarray(0, 1024))).toBe(true);
});

test('the example is what the reader reads', () => {
  const index = decodeIndex(bytes('index'));
  const [file] = index.files;
  expect(file).toMatchObject({ name: 'example.img', size: 12288n });
  const chunk = file?.chunks.chunk(0);
  expect(chunk).toMatchObject({ fileOffset: 4096n, layerOffset: 1024n, crc32: 0xd998d262 });
  if (!chunk) throw new Error('no chunk');
  expect(page.equals(decodeChunk(bytes('chunk'), chunk))).toBe(true);
});

test('the annotation of the example leads to the index', () => {
  const line = /^v1,<digest of the index layer>,.*$/m.exec(doc)?.[0] ?? '';
  const layer = buildIndexLayer(emptyJson, bytes('index'));
  const location = parseIndexAnnotation(line.replace(/<.*>/, digestOf(layer.bytes)));
  expect([location.offset, location.length]).toEqual([layer.indexOffset, layer.indexLength]);
  const range = layer.bytes.subarray(location.offset, location.offset + location.length);
  expect(openIndex(range, location).chunkCount).toBe(1);
});

test('the limits in the text are those of the code', () => {
  expect(limits).toEqual({
    indexBytes: 134217728,
    checkpointJsonBytes: 4 * 2 ** 20,
    dataLayers: 1023,
    dataLayerBytes: 8 * 2 ** 30 - 512,
    files: 65536,
    fileBytes: 16 * 2 ** 40,
    decodedChunkBytes: 2 ** 20,
    metadataBytes: 2 ** 30,
    nameBytes: 255,
    lazyLayers: 1024,
  });
  for (const text of [
    '134217728',
    '128 MiB',
    '4 MiB',
    '1023',
    '8 GiB less 512 bytes',
    '65536',
    '16 TiB',
    '255 bytes',
    '| layers in `layer_reads`                           | 1024 ',
  ])
    expect(doc).toContain(text);
});
