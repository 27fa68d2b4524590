import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { native } from './index.ts';
import { openDescriptors, runNode, temporaryFolder } from './testing.ts';

/** Any file of kernfs will do; what cgroups report is tested where cgroups can be made, in test/. */
const KERNFS = '/sys/kernel/uevent_seqnum';

const first = (path: string) =>
  new Promise<string | undefined>((resolve, reject) => {
    native.watchFile(path, (error, text) => (error ? reject(error) : resolve(text)));
  });

describe('watchFile', () => {
  test('gives the text at first, and holds one descriptor until it is stopped', async () => {
    await first(KERNFS).catch(() => {});
    const before = openDescriptors();
    const texts: (string | undefined)[] = [];
    const id = native.watchFile(KERNFS, (_, text) => texts.push(text));
    await expect.poll(() => texts).toEqual([expect.stringMatching(/^\d+\n$/)]);
    expect(openDescriptors()).toBe(before + 1);
    native.watchStop(id);
    await expect.poll(() => openDescriptors()).toBe(before);
    native.watchStop(id);
  });

  test('refuses a file that can never tell of a change, and leaves nothing open', async () => {
    const file = join(temporaryFolder(), 'memory.events');
    writeFileSync(file, 'oom_kill 0\n');
    await first(KERNFS).catch(() => {});
    const before = openDescriptors();
    await expect(first(file)).rejects.toMatchObject({ code: 'EPERM', syscall: 'epoll_ctl', path: file });
    expect(() => native.watchFile(`${file}.none`, () => {})).toThrow(/^ENOENT/);
    await expect.poll(() => openDescriptors()).toBe(before);
  });

  test('calls nobody back after it was stopped, whatever is on its way', async () => {
    const output = await runNode(`
      const id = native.watchFile('${KERNFS}', () => console.log('called'));
      const until = performance.now() + 100;
      while (performance.now() < until);
      native.watchStop(id);`);
    expect(output).toBe('');
  });
});

test('watchCgroupEvent fails where there is no v1 cgroup, and leaves nothing open', () => {
  const folder = temporaryFolder();
  const before = openDescriptors();
  expect(() => native.watchCgroupEvent(join(folder, 'none'), join(folder, 'control'), () => {})).toThrow(
    /^ENOENT/,
  );
  expect(openDescriptors()).toBe(before);
});
