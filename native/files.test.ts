import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { native } from './index.ts';
import { openDescriptors, temporaryFolder } from './testing.ts';

describe('readFiles', () => {
  test('gives texts and errors in the order of the paths', async () => {
    const folder = temporaryFolder();
    const path = (name: string) => join(folder, name);
    writeFileSync(path('a'), 'one\n');
    writeFileSync(path('large'), 'ä'.repeat(50_000));
    writeFileSync(path('empty'), '');
    const before = openDescriptors();
    expect(await native.readFiles([path('large'), path('none'), path('a'), folder, path('empty')])).toEqual([
      'ä'.repeat(50_000),
      -constants.errno.ENOENT,
      'one\n',
      -constants.errno.EISDIR,
      '',
    ]);
    expect(openDescriptors()).toBe(before);
    expect(await native.readFiles([])).toEqual([]);
  });

  test('is bounded and is not stopped by a fifo', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'huge'), Buffer.alloc((1 << 20) + 1));
    execFileSync('mkfifo', [join(folder, 'fifo')]);
    expect(await native.readFiles([join(folder, 'huge'), join(folder, 'fifo')])).toEqual([
      -constants.errno.EFBIG,
      '',
    ]);
  });

  test('reads what the kernel makes up', async () => {
    const [status] = await native.readFiles(['/proc/self/status']);
    expect(status).toMatch(/^Pid:\s+\d+$/m);
  });

  test('refuses what is no list of paths', () => {
    expect(() => native.readFiles('x' as never)).toThrow('expected an array of strings');
  });
});
