import { expect, it } from 'vitest';
import type { CheckpointIndex } from '../checkpoint/index-format.ts';
import { usageWithCache } from './cache-usage.ts';
import type { OverlaySnapshotter } from './overlay/index.ts';

const named = (name: string, checkpoint?: string) => ({ name, directory: { id: 1, checkpoint } });
const snapshots = [named('index', 'sha256:a'), named('data', 'sha256:a'), named('plain')];
const snapshotter = {
  usage: async () => ({ size: 10n, inodes: 1n }),
  store: {
    get: (name: string) => snapshots.find((snapshot) => snapshot.name === name),
    withCached: (id: string) => snapshots.filter(({ directory }) => directory.checkpoint === id),
  },
} as unknown as Pick<OverlaySnapshotter, 'usage' | 'store'>;
const entry = { bytes: 1000n, index: { files: ['a', 'b'] } as unknown as CheckpointIndex };
const cache = (present: boolean) => ({ find: () => (present ? entry : undefined) });

it.each([
  ['index', true, { size: 1010n, inodes: 3n }],
  ['data', true, { size: 10n, inodes: 1n }],
  ['plain', true, { size: 10n, inodes: 1n }],
  ['index', false, { size: 10n, inodes: 1n }],
])('%s with its checkpoint in the cache: %s', async (name, present, usage) => {
  expect(await usageWithCache(snapshotter, cache(present), name)).toEqual(usage);
});
