import { expect, it } from 'vitest';
import { criu } from '../../proto/gen/criu-dump.js';
import { Magic, writeMessages } from './framing.ts';
import { readMemfds } from './memfds.ts';

const inode = (fields: { size: number; shmid: number; hugetlbFlag?: number }) =>
  criu.dump.MemfdInode.encode({ inodeId: 1, ...fields } as never).finish();

it('reads what memfds are long and where their content is', () => {
  const image = writeMessages(Magic.memfdInode, [
    inode({ size: 2 ** 40 + 1, shmid: 7 }),
    inode({ size: 0, shmid: 8, hugetlbFlag: 4 }),
  ]);
  expect(readMemfds(image)).toEqual([
    { id: 7n, bytes: 2n ** 40n + 1n, isHuge: false },
    { id: 8n, bytes: 0n, isHuge: true },
  ]);
});

it('refuses what is no such image, or cut off', () => {
  const image = writeMessages(Magic.memfdInode, [inode({ size: 1, shmid: 7 })]);
  expect(() => readMemfds(image.subarray(0, -1))).toThrow(/cut off/);
  expect(() => readMemfds(writeMessages(Magic.pagemap, []))).toThrow(/does not begin/);
});
