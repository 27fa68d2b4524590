import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { native } from './index.ts';
import { openDescriptors, temporaryFolder } from './testing.ts';

const [MKDIR, CHMOD, CHOWN, RENAME, RMDIR] = [0n, 1n, 2n, 3n, 4n] as const;

function run(paths: string[], ...calls: bigint[][]): Promise<number[]> {
  return native.fileCalls(paths, BigUint64Array.from(calls.flat()));
}

test('does one call after the other', async () => {
  const folder = temporaryFolder();
  const [made, name] = [join(folder, 'new'), join(folder, 'ä')];
  const { uid, gid } = statSync(folder);
  const before = openDescriptors();
  const failures = await run(
    [made, name],
    [0n, MKDIR, 0n, 0o700n],
    [0n, CHMOD, 0n, 0o1777n],
    [0n, CHOWN, 0n, BigInt(uid) | (BigInt(gid) << 32n)],
    [0n, RENAME, 0n, 1n],
  );
  expect(failures).toEqual([]);
  expect(readdirSync(folder)).toEqual(['ä']);
  expect(statSync(name)).toMatchObject({ uid, gid, mode: 0o041777 });
  expect(openDescriptors()).toBe(before);
  expect(await run([name], [0n, RMDIR, 0n, 0n], [0n, RMDIR, 0n, 0n])).toEqual([]);
  expect(existsSync(name)).toBe(false);
});

test('a failure ends its group and no other', async () => {
  const folder = temporaryFolder();
  const path = (name: string) => join(folder, name);
  mkdirSync(path('there/deep'), { recursive: true });
  const failures = await run(
    ['there', 'a', 'b', 'c', 'none/x'].map(path),
    [0n, MKDIR, 1n, 0o700n],
    [0n, MKDIR, 0n, 0o700n],
    [0n, MKDIR, 2n, 0o700n],
    [1n, RMDIR, 0n, 0n],
    [2n, MKDIR, 3n, 0o700n],
    [3n, RENAME, 4n, 0n],
  );
  const { EEXIST, ENOTEMPTY, ENOENT } = constants.errno;
  expect(failures).toEqual([1, -EEXIST, 3, -ENOTEMPTY, 5, -ENOENT]);
  expect(readdirSync(folder).sort()).toEqual(['a', 'c', 'there']);
});

test('refuses what is no call', () => {
  expect(() => run([], [0n, MKDIR, 0n, 0n])).toThrow('expected calls of paths');
  expect(() => run(['/x'], [0n, RENAME, 0n, 1n])).toThrow('expected calls of paths');
  expect(() => run(['/x'], [0n, 5n, 0n, 0n])).toThrow('expected calls of paths');
  expect(() => run(['/x'], [0n, MKDIR])).toThrow('whole records');
});
