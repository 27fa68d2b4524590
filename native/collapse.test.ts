import { closeSync } from 'node:fs';
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

  it('says that a descriptor is no process', async () => {
    await expect(native.collapse(0, BigUint64Array.of(0n, 4n << 20n))).rejects.toMatchObject({
      code: 'EBADF',
    });
  });

  it('wants pairs', () => {
    expect(() => native.collapse(0, BigUint64Array.of(1n))).toThrow(TypeError);
  });
});
