import { describe, expect, it } from 'vitest';
import { classify } from './archive.ts';

it.each([
  ['checkpoint/', 'directory', { kind: 'ignored' }],
  ['checkpoint/pages-1.img', 'file', { kind: 'image', name: 'pages-1.img' }],
  ['./checkpoint/core-1.img', 'file', { kind: 'image', name: 'core-1.img' }],
  ['config.dump', 'file', { kind: 'document', name: 'config' }],
  ['./spec.dump', 'file', { kind: 'document', name: 'spec' }],
  ['deleted.files', 'file', { kind: 'document', name: 'deleted' }],
  ['thaw.json', 'file', { kind: 'document', name: 'facts' }],
  ['rootfs-diff.tar', 'file', { kind: 'diff' }],
  ['dump.log', 'file', { kind: 'log' }],
  ['volumes/data.tar', 'file', { kind: 'volume', name: 'data' }],
  ['volumes/', 'directory', { kind: 'ignored' }],
  ['devshm-checkpoint.tar', 'file', { kind: 'shm' }],
  ['stats-dump', 'file', { kind: 'image', name: 'stats-dump' }],
  ['checkpoint/stats-dump', 'file', { kind: 'ignored' }],
  ['pod.options', 'file', { kind: 'pod' }],
  ['network.status', 'file', { kind: 'ignored' }],
  ['bind.mounts', 'file', { kind: 'ignored' }],
  ['artifacts', 'symlink', { kind: 'ignored' }],
] as const)('%s', (path, type, entry) => expect(classify(path, type)).toEqual(entry));

describe('no honest archive has', () => {
  it.each([
    ['../checkpoint/a', 'file', 'leads out'],
    ['checkpoint/../../a', 'file', 'leads out'],
    ['/etc/passwd', 'file', 'leads out'],
    ['checkpoint/a/b', 'file', 'no regular file'],
    ['checkpoint/a.img', 'symlink', 'no regular file'],
    ['checkpoint/a.img', 'link', 'no regular file'],
    ['checkpoint/a.img', 'fifo', 'no regular file'],
    ['config.dump', 'symlink', 'no regular file'],
    ['rootfs-diff.tar', 'block-device', 'no regular file'],
    ['checkpoint/a b', 'file', 'cannot hold a file of that name'],
    ['volumes/a/b', 'file', 'no regular file'],
    ['devshm-checkpoint.tar', 'symlink', 'no regular file'],
  ])('%s, a %s', (path, type, said) => expect(() => classify(path, type)).toThrow(said));
});

it('one that only has what changed since another is refused with what to do', () => {
  expect(() => classify('checkpoint/parent', 'symlink')).toThrow(
    /since an earlier .* without --with-previous/,
  );
});
