import { describe, expect, it } from 'vitest';
import { overlayOf, splitLayers, withLowerDirs } from './layers.ts';

const rootfs = [
  {
    type: 'overlay',
    source: 'overlay',
    target: '',
    options: [
      'index=off',
      'workdir=/s/9/work',
      'upperdir=/s/9/fs',
      'lowerdir=/s/5/fs:/s/4/fs:/s/3/fs:/s/2/fs:/s/1/fs',
    ],
  },
];
const lower = ['/s/5/fs', '/s/4/fs', '/s/3/fs', '/s/2/fs', '/s/1/fs'];

describe('overlayOf', () => {
  it('reads lower and upper directories', () => {
    expect(overlayOf(rootfs)).toEqual({
      lowerDirs: lower,
      upperDir: '/s/9/fs',
      workDir: '/s/9/work',
      otherOptions: ['index=off', 'workdir=/s/9/work', 'upperdir=/s/9/fs'],
    });
  });
  it('keeps an escaped colon inside a directory', () => {
    const odd = [{ type: 'overlay', source: 'overlay', target: '', options: ['lowerdir=/a\\:b:/c'] }];
    expect(overlayOf(odd)?.lowerDirs).toEqual(['/a\\:b', '/c']);
  });
  it('is undefined for a bind mount, several mounts and an overlay without lower directories', () => {
    expect(overlayOf([{ type: 'bind', source: '/x', target: '', options: ['rbind'] }])).toBeUndefined();
    expect(overlayOf([...rootfs, ...rootfs])).toBeUndefined();
    expect(overlayOf([{ type: 'overlay', source: 'overlay', target: '', options: [] }])).toBeUndefined();
    expect(overlayOf([])).toBeUndefined();
  });
});

describe('splitLayers', () => {
  it('takes the diff into a restore and leaves it out of a cold start', () => {
    expect(splitLayers(lower, { checkpoint: 2, base: 2, diff: 1 })).toEqual({
      restore: ['/s/5/fs', '/s/4/fs', '/s/3/fs'],
      cold: ['/s/4/fs', '/s/3/fs'],
      extra: 0,
    });
  });
  it('needs no diff', () => {
    const split = splitLayers(lower, { checkpoint: 2, base: 3, diff: 0 });
    expect(split.restore).toEqual(['/s/5/fs', '/s/4/fs', '/s/3/fs']);
    expect(split.cold).toEqual(split.restore);
  });
  it('keeps everything but the checkpoint when layers were put above the diff', () => {
    expect(splitLayers(lower, { checkpoint: 2, base: 1, diff: 1 })).toMatchObject({
      cold: ['/s/5/fs', '/s/4/fs', '/s/3/fs'],
      extra: 1,
    });
  });
  it('refuses fewer layers than the checkpoint names', () => {
    expect(() => splitLayers(lower, { checkpoint: 2, base: 4, diff: 0 })).toThrow(/5 layers.*names 6/);
  });
});

it('withLowerDirs changes the lower directories alone', () => {
  expect(withLowerDirs(rootfs, ['/s/3/fs'])[0]?.options).toEqual([
    'index=off',
    'workdir=/s/9/work',
    'upperdir=/s/9/fs',
    'lowerdir=/s/3/fs',
  ]);
});
