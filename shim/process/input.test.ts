import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { withInput } from './input.ts';

it('gives a child more than a pipe holds and leaves nothing', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'input-'));
  try {
    const bytes = Buffer.alloc(300_000, 'x');
    let used = -1;
    const count = await withInput(dir, bytes, async (fd) => {
      used = fd;
      expect(await readdir(dir)).toEqual([]);
      return execFileSync('wc', ['-c'], { stdio: [fd, 'pipe', 'inherit'], encoding: 'utf8' }).trim();
    });
    expect(count).toBe('300000');
    expect(existsSync(`/proc/self/fd/${used}`)).toBe(false);
    const failing = withInput(dir, bytes, async () => {
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    expect(existsSync(`/proc/self/fd/${used}`)).toBe(false);
  } finally {
    await rm(dir, { recursive: true });
  }
});
