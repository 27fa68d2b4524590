import { linkSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { diskUsage } from './disk-usage.ts';

test('counts every inode once and allocated blocks, and follows no link', async () => {
  const root = mkdtempSync(join(tmpdir(), 'thaw-usage-'));
  try {
    mkdirSync(join(root, 'd'));
    writeFileSync(join(root, 'd/file'), Buffer.alloc(100_000, 1));
    linkSync(join(root, 'd/file'), join(root, 'again'));
    symlinkSync('/usr', join(root, 'link'));
    const blocks = ['', 'd', 'd/file'].reduce(
      (sum, name) => sum + statSync(join(root, name), { bigint: true }).blocks,
      0n,
    );
    const { size, inodes } = await diskUsage(root);
    expect(inodes).toBe(4n);
    // A short symbolic link lies in its inode on most file systems.
    expect(size - blocks * 512n).toBeLessThanOrEqual(4096n);
    expect(size).toBeGreaterThanOrEqual(blocks * 512n);
  } finally {
    rmSync(root, { recursive: true });
  }
});
