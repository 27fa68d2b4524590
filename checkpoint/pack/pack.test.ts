import { execFileSync } from 'node:child_process';
import {
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { digestOf } from '../digest.ts';
import { CheckpointError } from '../error.ts';
import { sampleFacts } from '../facts.test-helper.ts';
import { decodeIndex, openIndex } from '../index-format.ts';
import { type Random, seeded } from '../random.test-helper.ts';
import { readCheckpointFacts } from '../read-facts.ts';
import { packFailure } from './failure.ts';
import {
  openTarLayers,
  openUnpackedLayers,
  type PackedData,
  type PackOptions,
  packDataLayers,
  packIndexLayer,
  unpack,
  verifyChunks,
  verifyLayerFile,
} from './index.ts';
import { packLane } from './pack-lane.ts';
import { SharedState } from './protocol.ts';

let root: string;
let images: string;
let scratch: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'thaw-pack-'));
  images = join(root, 'images');
  scratch = join(root, 'scratch');
  await mkdir(images);
});

afterEach(() => rm(root, { recursive: true, force: true }));

/** Text, noise and zeros in page-sized and odd runs. */
function content(random: Random, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const run = Math.min(length - at, random.int(3) === 0 ? random.int(9000) : 4096 * (1 + random.int(40)));
    const kind = random.int(3);
    if (kind === 1) random.bytes(run).copy(bytes, at);
    if (kind === 2) bytes.fill(`line ${at}\n`, at, at + run);
    at += Math.max(1, run);
  }
  return bytes;
}

async function packAll(over: Partial<PackOptions> = {}) {
  const packed = await packDataLayers({ imagesDir: images, scratchDir: scratch, threads: 2, ...over });
  const index = await packIndexLayer(scratch, packed, sampleFacts(packed.layers.length + 1));
  const tar = await readFile(index.path);
  const { offset, length } = index.location;
  const decoded = openIndex(tar.subarray(offset, offset + length), index.location);
  return { packed, index, decoded, tar };
}

async function identical(a: string, b: string): Promise<void> {
  expect((await readdir(b)).sort()).toEqual((await readdir(a)).sort());
  for (const name of await readdir(a))
    expect((await readFile(join(a, name))).equals(await readFile(join(b, name)))).toBe(true);
}

describe('pack and unpack', () => {
  test.each([1, 2, 3, 4, 5, 6])('give the same files back (seed %i)', async (seed) => {
    const random = seeded(seed);
    const sizes = [0, 1, 4095, 4096, 4097, 512 * 1024, 512 * 1024 + 1, random.int(3_000_000)];
    for (const [i, size] of sizes.entries())
      await writeFile(join(images, `pages-${i}.img`), content(random, size));
    await writeFile(join(images, 'zeros.img'), Buffer.alloc(2_000_000));
    const { packed, decoded } = await packAll({
      lanes: 1 + random.int(4),
      chunkBytes:
        [256, 512, 1024][seed % 3] === undefined ? 0 : ([256, 512, 1024][seed % 3] as number) * 1024,
      layerBytes: 1024 * 1024 + random.int(1_000_000),
    });
    for (const layer of packed.layers) await verifyLayerFile(layer.path, layer);
    const source = await openTarLayers(packed.layers.map((layer) => layer.path));
    try {
      const done: number[] = [];
      await verifyChunks(decoded, source, { onProgress: (n, total) => done.push(n / total) });
      expect(done.at(-1)).toBe(1);
      await unpack(decoded, source, join(root, 'out'));
    } finally {
      await source.close();
    }
    await identical(images, join(root, 'out'));
    expect(decoded.files.find((f) => f.name === 'zeros.img')?.chunks.count).toBe(0);
  });

  test('work through tar: any node unpacks the layers as ordinary files', async () => {
    await writeFile(join(images, 'pages-1.img'), content(seeded(9), 2_000_000));
    const { packed, index, decoded, tar } = await packAll({ lanes: 2 });
    const target = join(root, 'unpacked');
    await mkdir(target);
    for (const layer of [index, ...packed.layers]) execFileSync('tar', ['-xf', layer.path, '-C', target]);
    expect((await readdir(join(target, '.thaw'))).sort()).toEqual([
      'checkpoint.json',
      'chunks-000000',
      'chunks-000001',
      'index',
    ]);
    expect((await stat(join(target, '.thaw'))).mode & 0o7777).toBe(0o700);
    expect((await stat(join(target, '.thaw/index'))).mode & 0o7777).toBe(0o600);
    const bytes = await readFile(join(target, '.thaw/index'));
    expect(digestOf(bytes)).toBe(index.location.digest);
    expect(decodeIndex(bytes)).toEqual(decoded);
    const { offset, length } = decoded.checkpointJson;
    const json = await readFile(join(target, '.thaw/checkpoint.json'));
    expect(json.equals(tar.subarray(offset, offset + length))).toBe(true);
    expect(readCheckpointFacts(json, decoded.checkpointJson)).toEqual(sampleFacts(3));
    const source = await openUnpackedLayers([target, target]);
    try {
      await unpack(decoded, source, join(root, 'out'));
    } finally {
      await source.close();
    }
    await identical(images, join(root, 'out'));
    // In GNU tar's verbose listing: owner, size and time are the same for everybody.
    const listing = execFileSync('tar', [
      '-tvf',
      index.path,
      '--numeric-owner',
      '--full-time',
      '--utc',
    ]).toString();
    expect(listing).toMatch(/^drwx------ 0\/0 +0 1970-01-01 00:00:00 \.thaw\/$/m);
    expect(listing).toMatch(/^-rw------- 0\/0 +\d+ 1970-01-01 00:00:00 \.thaw\/index$/m);
  });

  test('equal dumps make equal layers, whatever the number of threads', async () => {
    await writeFile(join(images, 'pages-1.img'), content(seeded(3), 3_000_000));
    const first = await packAll({ lanes: 3, threads: 1 });
    scratch = join(root, 'second');
    const second = await packAll({ lanes: 3, threads: 3 });
    expect(second.index.annotation).toBe(first.index.annotation);
  });

  test('layers are split where they would grow too large', async () => {
    await writeFile(join(images, 'pages-1.img'), seeded(8).bytes(3_000_000));
    const { packed } = await packAll({ lanes: 1, layerBytes: 1_000_000, chunkBytes: 256 * 1024 });
    expect(packed.layers.length).toBe(4);
    expect(packed.storedBytes).toBe(3_000_000);
    for (const layer of packed.layers) expect(layer.size).toBeLessThanOrEqual(1_000_000 + 2048 + 512);
  });

  test('logs and facts of the dump stay out', async () => {
    for (const name of ['core-1.img', 'dump.log', 'stats-restore', 'thaw-dump.json', 'stats-dump'])
      await writeFile(join(images, name), 'x');
    const { packed } = await packAll();
    expect(packed.files.map((f) => f.name)).toEqual(['core-1.img', 'stats-dump']);
  });
});

describe('damage', () => {
  async function packSample(): Promise<PackedData> {
    await writeFile(join(images, 'pages-1.img'), content(seeded(4), 700_000));
    return packDataLayers({ imagesDir: images, scratchDir: scratch });
  }

  test('a flipped bit anywhere in a layer is found, by layer and by chunk', async () => {
    const packed = await packSample();
    const { decoded } = await withIndex(packed);
    const [layer] = packed.layers;
    if (!layer) throw new Error('no layer');
    const random = seeded(10);
    const chunks = decoded.files.flatMap((file) =>
      Array.from({ length: file.chunks.count }, (_, i) => file.chunks.chunk(i)),
    );
    for (let round = 0; round < 30; round++) {
      const chunk = chunks[random.int(chunks.length)];
      if (!chunk) throw new Error('no chunk');
      const at = Number(chunk.layerOffset) + random.int(chunk.storedLength);
      await flip(layer.path, at);
      await expect(verifyLayerFile(layer.path, layer)).rejects.toMatchObject({ code: Code.dataLoss });
      const source = await openTarLayers([layer.path]);
      await expect(verifyChunks(decoded, source)).rejects.toMatchObject({ code: Code.dataLoss });
      await expect(unpack(decoded, source, join(root, 'out'))).rejects.toThrow('pages-1.img');
      expect(await readdir(join(root, 'out'))).toEqual([]);
      await source.close();
      await flip(layer.path, at);
    }
    await verifyLayerFile(layer.path, layer);
  });

  test('a truncated layer is found', async () => {
    const packed = await packSample();
    const { decoded } = await withIndex(packed);
    const [layer] = packed.layers;
    if (!layer) throw new Error('no layer');
    await truncate(layer.path, layer.size - 2000);
    const source = await openTarLayers([layer.path]);
    await expect(verifyChunks(decoded, source)).rejects.toThrow('cut off');
    await source.close();
    await expect(verifyLayerFile(layer.path, layer)).rejects.toMatchObject({ code: Code.dataLoss });
  });

  test('links in an unpacked directory are not followed', async () => {
    await packSample();
    const evil = join(root, 'evil');
    await mkdir(join(root, 'real'), { recursive: true });
    await writeFile(join(root, 'real/chunks-000000'), 'x');
    await mkdir(evil);
    await symlink(join(root, 'real'), join(evil, '.thaw'));
    await expect(openUnpackedLayers([evil])).rejects.toThrow(/ENOTDIR|ELOOP/);
    await rm(join(evil, '.thaw'));
    await mkdir(join(evil, '.thaw'));
    await symlink(join(root, 'real/chunks-000000'), join(evil, '.thaw/chunks-000000'));
    await expect(openUnpackedLayers([evil])).rejects.toThrow('ELOOP');
    await rm(join(evil, '.thaw/chunks-000000'));
    execFileSync('mkfifo', [join(evil, '.thaw/chunks-000000')]);
    await expect(openUnpackedLayers([evil])).rejects.toThrow('regular');
  });
});

describe('failures leave nothing behind', () => {
  test('an abort in the middle', async () => {
    await writeFile(join(images, 'pages-1.img'), seeded(2).bytes(30_000_000));
    const controller = new AbortController();
    const running = packDataLayers({
      imagesDir: images,
      scratchDir: scratch,
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    setTimeout(() => controller.abort(), 30);
    await expect(running).rejects.toMatchObject({ code: Code.canceled });
    expect(await readdir(scratch)).toEqual([]);
  });

  test('an abort before the start', async () => {
    await writeFile(join(images, 'pages-1.img'), 'x');
    const signal = AbortSignal.abort();
    await expect(packDataLayers({ imagesDir: images, scratchDir: scratch, signal })).rejects.toBeInstanceOf(
      CheckpointError,
    );
  });

  test('a link, a directory, an odd name, nothing at all', async () => {
    await expect(packAll()).rejects.toThrow('its directory is empty');
    for (const make of [
      () => symlink('/etc/passwd', join(images, 'core-1.img')),
      () => mkdir(join(images, 'core-1.img')),
      () => writeFile(join(images, 'a b'), 'x'),
    ]) {
      await make();
      await expect(packAll()).rejects.toMatchObject({ code: Code.invalidArgument });
      await rm(images, { recursive: true });
      await mkdir(images);
    }
  });

  test('a file that became shorter', async () => {
    await mkdir(scratch);
    await writeFile(join(images, 'pages-1.img'), 'short');
    const shared = new SharedState();
    const chunkBytes = 512 * 1024;
    const setup = { imagesDir: images, scratchDir: scratch, names: ['pages-1.img'], chunkBytes };
    expect(() =>
      packLane(
        { ...setup, layerBytes: chunkBytes, shared: shared.buffer },
        0,
        [{ file: 0, offset: 0, length: 4096 }],
        shared,
      ),
    ).toThrow('became shorter');
  });

  test('a layer that cannot be made', async () => {
    await writeFile(join(images, 'pages-1.img'), seeded(2).bytes(100_000));
    await mkdir(scratch);
    await writeFile(join(scratch, 'lane-0-0.tmp'), '');
    await expect(packDataLayers({ imagesDir: images, scratchDir: scratch })).rejects.toThrow('EEXIST');
    expect(await readdir(scratch)).toEqual([]);
  });

  test('a full disk is said in plain words', () => {
    for (const code of ['ENOSPC', 'EDQUOT'])
      expect(packFailure({ kind: 'failed', message: 'write', code, syscall: 'write' })).toMatchObject({
        code: Code.resourceExhausted,
        message: expect.stringContaining('disk of the scratch directory is full'),
      });
  });
});

test('the event loop stays free while packing', async () => {
  await writeFile(join(images, 'pages-1.img'), seeded(12).bytes(20_000_000));
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await packDataLayers({ imagesDir: images, scratchDir: scratch, threads: 1 });
  clearInterval(timer);
  // Packing on this thread would leave no turn at all; how many there are depends on how busy the machine is.
  expect(turns).toBeGreaterThan(5);
});

async function withIndex(packed: PackedData) {
  const index = await packIndexLayer(scratch, packed, sampleFacts(packed.layers.length + 1));
  const tar = await readFile(index.path);
  const { offset, length } = index.location;
  return { decoded: openIndex(tar.subarray(offset, offset + length), index.location) };
}

async function flip(path: string, at: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte[0] = (byte[0] ?? 0) ^ 0x10;
  await file.write(byte, 0, 1, at);
  await file.close();
}
