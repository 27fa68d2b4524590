import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../native/index.ts';
import { openDescriptors } from '../../native/testing.ts';
import { ChildSpawner, findProgram } from './spawn.ts';

const env = { PATH: '/usr/bin:/bin', A: 'b c' };
const spawner = new ChildSpawner(native);
const sh = (script: string, options: Partial<Parameters<ChildSpawner['run']>[2]> = {}) =>
  spawner.run('sh', ['-c', script], { env, deadlineMs: 10_000, captureStdout: true, ...options });

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'spawn-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

describe('ChildSpawner', () => {
  it('tells the exit code and what was written', async () => {
    expect(await sh('echo "$A"; echo no >&2; exit 7')).toEqual({
      code: 7,
      signal: undefined,
      timedOut: false,
      stdout: 'b c\n',
    });
  });

  it('tells the signal that ended the program', async () => {
    expect(await sh('kill -TERM $$')).toMatchObject({ code: undefined, signal: 15, timedOut: false });
  });

  it('hands input over, of any size, and its end', async () => {
    const input = Buffer.alloc(3 << 20, 'x');
    const { stdout } = await sh('wc -c; wc -c', { input });
    expect(stdout.split('\n').map((line) => line.trim())).toEqual([String(input.length), '0', '']);
  });

  it('keeps no more than 4 MiB of output', async () => {
    const { stdout, code } = await sh('head -c 5000000 /dev/zero');
    expect([code, stdout.length]).toEqual([0, 4 << 20]);
  });

  it('passes the descriptors asked for, each at its number, and no other', async () => {
    const paths = ['one', 'two'].map((name) => join(dir, name));
    const [one = -1, two = -1] = paths.map((path) => openSync(path, 'w'));
    // Swapped: what becomes 3 was opened after what becomes 4.
    await sh('ls /proc/self/fd | tr "\\n" " "; echo a >&3; echo b >&4', { extraFds: [two, one] }).then(
      ({ stdout }) => expect(stdout).toBe('0 1 2 3 4 5 '), // 5 is the folder that ls reads
    );
    expect(paths.map((path) => readFileSync(path, 'utf8'))).toEqual(['b\n', 'a\n']);
    for (const fd of [one, two]) closeSync(fd);
  });

  it('tells the pid before it reaps, however soon the program ends', async () => {
    let opened = -1;
    const onSpawn = (pid: number) => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
      opened = native.pidfdOpen(pid);
    };
    expect(await sh('exit 3', { onSpawn })).toMatchObject({ code: 3 });
    closeSync(opened);
  });

  it('kills the whole group at the deadline', async () => {
    const started = performance.now();
    const result = await sh('sleep 60 & echo $!; wait', { deadlineMs: 200 });
    expect(result).toMatchObject({ code: undefined, signal: 9, timedOut: true });
    expect(performance.now() - started).toBeLessThan(10_000);
    const pid = Number(result.stdout);
    await expect.poll(() => isRunning(pid)).toBe(false);
  });

  it('starts programs with default signals, in the folder and below the limit asked for', async () => {
    const limited = new ChildSpawner(native, 77);
    const { stdout } = await limited.run(
      'sh',
      ['-c', 'pwd; ulimit -Sn; grep -E "^Sig(Blk|Ign)" /proc/self/status'],
      {
        env,
        cwd: dir,
        deadlineMs: 10_000,
        captureStdout: true,
      },
    );
    const [folder, limit, ...masks] = stdout.trim().split('\n');
    expect([folder, limit]).toEqual([dir, '77']);
    expect(masks.map((line) => line.split('\t')[1])).toEqual(Array(2).fill('0'.repeat(16)));
  });

  it('says why a program cannot be started, and leaves nothing open', async () => {
    const before = openDescriptors();
    writeFileSync(join(dir, 'plain'), 'x', { mode: 0o644 });
    for (const [file, code] of [
      ['no-such-program', 'ENOENT'],
      [join(dir, 'plain'), 'EACCES'],
    ] as const)
      await expect(spawner.run(file, [], { env, deadlineMs: 1000 })).rejects.toMatchObject({ code });
    await expect(sh('true', { cwd: join(dir, 'missing') })).rejects.toMatchObject({
      code: 'ENOENT',
      syscall: 'chdir',
      path: join(dir, 'missing'),
    });
    expect(openDescriptors()).toBe(before);
    expect(native.children()).toEqual([]);
  });

  it('owns a pid as long as somebody waits for it', async () => {
    let pid = 0;
    const run = sh('sleep 0.1', { onSpawn: (started) => (pid = started) });
    await expect.poll(() => pid).not.toBe(0);
    expect(spawner.owns(pid)).toBe(true);
    await run;
    expect(spawner.owns(pid)).toBe(false);
  });
});

describe('findProgram', () => {
  it('looks where the PATH says, and leaves paths alone', () => {
    const path = `${dir}:/usr/bin`;
    expect(findProgram('env', path)).toBe('/usr/bin/env');
    writeFileSync(join(dir, 'env'), '', { mode: 0o755 });
    expect(findProgram('env', path)).toBe(join(dir, 'env'));
    expect(findProgram('./env', path)).toBe('./env');
    expect(findProgram('no-such-program', path)).toBe('no-such-program');
  });
});

function isRunning(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
}
