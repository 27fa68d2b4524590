import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { native } from '../../native/index.ts';
import { type WriteBackDeps, writeBackGently } from './write-back.ts';

const MIB = 1n << 20n;
const always = () => true;

/** A disk on which each slice takes the next of these times, 0 from then on. */
function disk(times: number[], fail?: (call: number) => Error | undefined) {
  let now = 0;
  const calls: [bigint, bigint][] = [];
  const rests: number[] = [];
  const deps: WriteBackDeps = {
    writeBack: async (_fd, offset, length) => {
      const error = fail?.(calls.length);
      calls.push([offset, length]);
      if (error) throw error;
      now += times.shift() ?? 0;
    },
    clock: () => now,
    sleep: async (ms) => {
      rests.push(ms);
      now += ms;
    },
  };
  return { deps, calls, rests };
}

const failed = (code: string) => Object.assign(new Error(code), { code });

describe('writing back gently', () => {
  test('goes through the whole file in slices, the last one shorter', async () => {
    const { deps, calls } = disk([]);
    await writeBackGently(3, 17n * MIB, always, deps);
    expect(calls).toEqual([
      [0n, 8n * MIB],
      [8n * MIB, 8n * MIB],
      [16n * MIB, MIB],
    ]);
  });

  test('leaves the disk to others for as long as each slice took it', async () => {
    const { deps, rests } = disk([15, 0.5, 40]);
    await writeBackGently(3, 32n * MIB, always, deps);
    expect(rests).toEqual([15, 40]);
  });

  test('ends where it is not wanted any more', async () => {
    const { deps, calls } = disk([15, 15]);
    await writeBackGently(3, 32n * MIB, () => calls.length < 2, deps);
    expect(calls).toHaveLength(2);
  });

  test('leaves it to fsync where the file system cannot', async () => {
    const { deps, calls } = disk([], () => failed('EINVAL'));
    await writeBackGently(3, 32n * MIB, always, deps);
    expect(calls).toHaveLength(1);
  });

  test('says what the disk says: an fsync after it would not', async () => {
    const { deps } = disk([], (call) => (call === 1 ? failed('EIO') : undefined));
    await expect(writeBackGently(3, 32n * MIB, always, deps)).rejects.toThrow('EIO');
  });

  test('works on a real file, and says so of what is none', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'thaw-write-back-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'file');
    writeFileSync(path, Buffer.alloc(100_000, 1));
    await native.writeBack(openSync(path, 'r'), 0n, 100_000n);
    await expect(native.writeBack(openSync('/dev/null', 'r'), 0n, 1n)).rejects.toMatchObject({
      code: 'ESPIPE',
    });
  });
});
