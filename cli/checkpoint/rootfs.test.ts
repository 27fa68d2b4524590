import { describe, expect, it } from 'vitest';
import type { Mount } from '../containerd/index.ts';
import { lowerCountOf, lowerDirs, runsOnDiff, trimLowers } from './rootfs.ts';

function overlay(lower: string, ...options: string[]): Mount[] {
  return [{ type: 'overlay', source: 'overlay', target: '', options: [...options, `lowerdir=${lower}`] }];
}
const upper = ['upperdir=/s/9/fs', 'workdir=/s/9/work'];

describe('lowerDirs()', () => {
  it('reads them topmost first, with escaped colons', () => {
    expect(lowerDirs(overlay('/a:/b\\:c:/d'))).toEqual(['/a', '/b\\:c', '/d']);
  });
  it('knows none for a bind mount', () => {
    expect(lowerDirs([{ type: 'bind', source: '/a', target: '', options: ['ro'] }])).toBeUndefined();
  });
});

describe('trimLowers()', () => {
  it('leaves mounts alone where nothing is to go', () => {
    const mounts = [{ type: 'bind', source: '/a', target: '', options: ['ro'] }];
    expect(trimLowers(mounts, 0, 0)).toEqual(mounts);
  });
  it('drops checkpoint layers from below a restored container', () => {
    expect(trimLowers(overlay('/diff:/b2:/b1:/data:/index', ...upper), 2, 0)).toEqual(
      overlay('/diff:/b2:/b1', ...upper),
    );
  });
  it('drops the old diff as well after a cold start', () => {
    expect(trimLowers(overlay('/diff:/b2:/b1:/data:/index', ...upper), 2, 1)).toEqual(
      overlay('/b2:/b1', ...upper),
    );
  });
  it('mounts a single read-only layer as a bind mount, as overlayfs needs two', () => {
    expect(trimLowers(overlay('/b1:/data:/index'), 2, 0)).toEqual([
      { type: 'bind', source: '/b1', target: '', options: ['ro', 'rbind'] },
    ]);
  });
  it('keeps a single layer below an upper directory as an overlay', () => {
    expect(trimLowers(overlay('/b1:/data:/index', ...upper), 2, 0)).toEqual(overlay('/b1', ...upper));
  });
  it('refuses mounts without base layers, and other snapshotters', () => {
    expect(() => trimLowers(overlay('/data:/index'), 2, 0)).toThrow('no base layers');
    expect(() => trimLowers([{ type: 'bind', source: '/a', target: '', options: [] }], 2, 0)).toThrow(
      'overlay',
    );
  });
});

describe('lowerCountOf()', () => {
  const line = (point: string, type: string, options: string) =>
    `101 99 0:50 / ${point} rw,relatime shared:7 - ${type} overlay ${options}`;
  it('counts those of the root mount only', () => {
    const text = [
      line('/', 'overlay', 'rw,lowerdir=/a:/b:/c,upperdir=/u,workdir=/w'),
      line('/mnt', 'overlay', 'rw,lowerdir=/a'),
    ];
    expect(lowerCountOf(text.join('\n'))).toBe(3);
  });
  it('takes the mount that lies on top', () => {
    const text = [line('/', 'overlay', 'rw,lowerdir=/a:/b'), line('/', 'overlay', 'rw,lowerdir=/a')];
    expect(lowerCountOf(text.join('\n'))).toBe(1);
  });
  it('reads mounts made one lowerdir at a time, and escaped colons', () => {
    expect(lowerCountOf(line('/', 'overlay', 'rw,lowerdir+=/a,lowerdir+=/b,upperdir=/u'))).toBe(2);
    expect(lowerCountOf(line('/', 'overlay', 'rw,lowerdir=/a\\134:x:/b'))).toBe(2);
  });
  it('knows none for a root that is no overlay', () => {
    expect(lowerCountOf(line('/', 'ext4', 'rw'))).toBeUndefined();
  });
});

describe('runsOnDiff()', () => {
  const counts = { checkpoint: 3, base: 4, diff: 1 as const };
  it('is so after a restore, and under a runtime that mounts all layers', () => {
    expect(runsOnDiff(counts, 5)).toBe(true);
    expect(runsOnDiff(counts, 8)).toBe(true);
  });
  it('is not so after a cold start, or without a diff', () => {
    expect(runsOnDiff(counts, 4)).toBe(false);
    expect(runsOnDiff({ ...counts, diff: 0 }, 4)).toBe(false);
  });
  it('refuses to guess', () => {
    expect(() => runsOnDiff(counts, 6)).toThrow('Cannot tell which layers');
    expect(() => runsOnDiff(counts, undefined)).toThrow('Cannot tell which layers');
  });
});
