import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { sampleFacts } from '../../checkpoint/facts.test-helper.ts';
import type { LayerFacts } from '../../checkpoint/facts.ts';
import type { Mount } from '../containerd/index.ts';
import type { RunImage } from './base-image.ts';
import { splitLayers } from './layers.ts';

const layer = (name: string): LayerFacts => {
  const digest = `sha256:${Buffer.from(name).toString('hex').padEnd(64, '0')}`;
  return { digest, diffId: digest, mediaType: 'x', size: 1 };
};
const [index, data, base, diff, extra] = ['index', 'data', 'base', 'diff', 'extra'].map(layer) as [
  LayerFacts,
  LayerFacts,
  LayerFacts,
  LayerFacts,
  LayerFacts,
];

function imageOf(layers: LayerFacts[], checkpointLayers: number): RunImage {
  const lazy = new Map<string, string>();
  return { reference: 'r', configDigest: 'c', config: Buffer.alloc(0), layers, checkpointLayers, lazy };
}

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'thaw-'));
});
afterEach(() => rm(dir, { recursive: true }));

/** A snapshot of the two checkpoint layers, one base layer and what lies above. */
async function mounts(where: 'beside' | 'in', above: string[], hasDiff: boolean): Promise<Mount[]> {
  const lowest = join(dir, '1', 'fs');
  const home = where === 'beside' ? join(dir, '1') : join(lowest, '.thaw');
  await mkdir(lowest, { recursive: true });
  await mkdir(home, { recursive: true });
  const facts = sampleFacts(2);
  if (hasDiff) facts.layers.diff = diff;
  await writeFile(join(home, 'checkpoint.json'), JSON.stringify(facts));
  const lower = [...above, '/base', '/data', lowest].join(':');
  return [{ type: 'overlay', source: 'overlay', target: '', options: ['upperdir=/u', `lowerdir=${lower}`] }];
}
const running = (count: number) => async () => count;

it('takes every layer of an ordinary image as the base', async () => {
  const split = await splitLayers(imageOf([base, extra], 0), [], running(0));
  expect(split).toEqual({ base: [base, extra], checkpoint: 0, diff: 0, unusedDiff: 0 });
});

it.each(['beside', 'in'] as const)(
  'reads checkpoint.json %s the lowest layer, and drops checkpoint and diff',
  async (where) => {
    const split = await splitLayers(
      imageOf([index, data, base, diff], 2),
      await mounts(where, ['/diff'], true),
      running(2),
    );
    expect(split).toEqual({ base: [base], checkpoint: 2, diff: 1, unusedDiff: 0 });
  },
);

it('sees that a container that started cold does not run on the diff', async () => {
  const image = imageOf([index, data, base, diff], 2);
  const split = await splitLayers(image, await mounts('beside', ['/diff'], true), running(1));
  expect(split).toEqual({ base: [base], checkpoint: 2, diff: 1, unusedDiff: 1 });
});

it('takes all above the checkpoint as the base where somebody added layers', async () => {
  const image = imageOf([index, data, base, diff, extra], 2);
  const split = await splitLayers(image, await mounts('beside', ['/extra', '/diff'], true), running(3));
  expect(split).toEqual({ base: [base, diff, extra], checkpoint: 2, diff: 0, unusedDiff: 0 });
});

it('refuses an image and a checkpoint.json that do not fit, and one that is missing', async () => {
  const fits = await mounts('beside', [], false);
  await expect(splitLayers(imageOf([index, data, data, base], 3), fits, running(1))).rejects.toThrow(
    'base layers',
  );
  await expect(splitLayers(imageOf([index, data], 2), fits, running(1))).rejects.toThrow('base layers');
  await rm(join(dir, '1', 'checkpoint.json'));
  await expect(splitLayers(imageOf([index, data, base], 2), fits, running(1))).rejects.toThrow('base layers');
});
