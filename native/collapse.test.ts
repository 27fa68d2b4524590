import { closeSync, openSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { native } from './index.ts';

describe('collapse', () => {
  it('does nothing to ranges without a whole huge page', async () => {
    const pidfd = native.pidfdOpen(process.pid);
    try {
      expect(await native.collapse(pidfd, BigUint64Array.of(4096n, 1n << 20n))).toBe(0n);
      expect(await native.collapse(pidfd, new BigUint64Array())).toBe(0n);
    } finally {
      closeSync(pidfd);
    }
  });

  it('leaves memory that is not there alone', async () => {
    const pidfd = native.pidfdOpen(process.pid);
    try {
      expect(await native.collapse(pidfd, BigUint64Array.of(0n, 4n << 20n))).toBe(0n);
    } finally {
      closeSync(pidfd);
    }
  });

  it('can be limited to memory that is all there', async () => {
    const [pidfd, pagemap] = [native.pidfdOpen(process.pid), openSync('/proc/self/pagemap', 'r')];
    try {
      expect(await native.collapse(pidfd, BigUint64Array.of(0n, 64n << 20n), pagemap)).toBe(0n);
      expect(() => native.collapse(pidfd, BigUint64Array.of(0n, 1n), -1)).toThrow(TypeError);
    } finally {
      for (const fd of [pidfd, pagemap]) closeSync(fd);
    }
  });

  it('takes no more memory where only whole huge pages are asked for', async () => {
    // Fresh from the kernel: a fresh mapping has no small pages but those that are written to.
    const whole = Buffer.allocUnsafeSlow(16 << 20).fill(1);
    const half = Buffer.allocUnsafeSlow(16 << 20);
    for (let at = 0; at < half.length; at += 8192) half[at] = 2;
    const mappings = readFileSync('/proc/self/maps', 'utf8').matchAll(
      /^([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 *$/gm,
    );
    const ranges = [...mappings].flatMap(([, from, to]) => [BigInt(`0x${from}`), BigInt(`0x${to}`)]);
    const [pidfd, pagemap] = [native.pidfdOpen(process.pid), openSync('/proc/self/pagemap', 'r')];
    try {
      const before = process.memoryUsage.rss();
      expect(await native.collapse(pidfd, BigUint64Array.from(ranges), pagemap)).toBeGreaterThanOrEqual(
        12n << 20n,
      );
      expect(process.memoryUsage.rss() - before).toBeLessThan(4 << 20);
    } finally {
      for (const fd of [pidfd, pagemap]) closeSync(fd);
    }
    expect(whole.every((byte) => byte === 1)).toBe(true);
    expect(half.reduce((sum, byte) => sum + byte, 0)).toBe(half.length / 4096);
  });

  it('says that a descriptor is no process', async () => {
    await expect(native.collapse(0, BigUint64Array.of(0n, 4n << 20n))).rejects.toMatchObject({
      code: 'EBADF',
    });
  });

  it('wants pairs', () => {
    expect(() => native.collapse(0, BigUint64Array.of(1n))).toThrow(TypeError);
  });
});
