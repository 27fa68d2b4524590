import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import { ChildSpawner } from '../process/spawn.ts';
import { type DriverLimits, LogDriver } from './log-driver.ts';

let dir: string;
let spawner: ChildSpawner;
let warnings: string[];
const limits = { ready: 5_000, end: 5_000, term: 5_000 };
const descriptors = () => readdirSync('/proc/self/fd').length;

beforeAll(async () => {
  // The first relay starts the addon's thread, which has descriptors of its own.
  const [from, to] = [openSync('/dev/null', 'r'), openSync('/dev/null', 'w')];
  await new Promise((resolve) => native.relayStart(from, to, resolve));
});
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'driver-'));
  spawner = new ChildSpawner(native);
  warnings = [];
});
afterEach(() => {
  expect(native.children().filter((pid) => spawner.owns(pid))).toEqual([]);
  rmSync(dir, { recursive: true });
});

/** A driver as a shell script; what it writes goes into files beside it. */
function start(
  script: string,
  options: { needsReady?: boolean; args?: string[] } & Partial<DriverLimits> = {},
): Promise<LogDriver> {
  const { needsReady = false, args = [], ...more } = options;
  const path = join(dir, 'driver');
  writeFileSync(path, `#!/bin/sh\ncd ${dir}\n${script}\n`, { mode: 0o755 });
  return LogDriver.start(
    { kind: 'driver', path, args, needsReady },
    { id: 'c', namespace: 'ns' },
    { calls: native, spawner, warn: (reason) => warnings.push(reason), limits: { ...limits, ...more } },
  );
}
const said = (name: string) => readFileSync(join(dir, name), 'utf8');

describe('LogDriver', () => {
  it('gets both streams to their end, and nothing else', async () => {
    const before = descriptors();
    const driver = await start(
      `env | sort >env; echo "$@" >args; ls /proc/$$/fd >fds; echo >&5; exec 5>&-
       cat <&3 >out; cat <&4 >err; sleep 0.1; echo done >done`,
      { needsReady: true, args: ['k', 'v'] },
    );
    expect(
      said('env')
        .split('\n')
        .filter((line) => !/^(PWD|OLDPWD|SHLVL|_)=/.test(line)),
    ).toEqual(['CONTAINER_ID=c', 'CONTAINER_NAMESPACE=ns', '']);
    expect(said('args')).toBe('k v\n');
    // From 10 on they are the shell's own, and what this test's process was started with.
    expect(
      said('fds')
        .split('\n')
        .filter((fd) => /^\d$/.test(fd)),
    ).toEqual(['0', '1', '2', '3', '4', '5']);
    writeSync(driver.writers[0], 'to out');
    writeSync(driver.writers[1], 'to err');
    await driver.stop();
    expect([said('out'), said('err'), said('done')]).toEqual(['to out', 'to err', 'done\n']);
    expect(warnings).toEqual([]);
    expect(descriptors()).toBe(before);
  });

  it('takes the end of the ready pipe for readiness, unless it must be said', async () => {
    const script = 'exec 5>&-; cat <&3 >out; cat <&4 >err';
    await (await start(script)).stop();
    await expect(start(script, { needsReady: true })).rejects.toThrow('did not say that it is ready');
  });

  it('is not waited for without end', async () => {
    const before = descriptors();
    await expect(start('sleep 60 & wait', { ready: 50, end: 50 })).rejects.toMatchObject({
      code: Code.deadlineExceeded,
    });
    expect(descriptors()).toBe(before);
  });

  it('says which program is missing', async () => {
    const before = descriptors();
    const starting = LogDriver.start(
      { kind: 'driver', path: join(dir, 'none'), args: [], needsReady: false },
      { id: 'c', namespace: 'ns' },
      { calls: native, spawner, warn: () => {} },
    );
    await expect(starting).rejects.toThrow(/failed to start binary process: ENOENT.*none/);
    expect(descriptors()).toBe(before);
  });

  it('is asked to end when it does not by itself, then killed', async () => {
    const polite = await start(
      "trap 'echo asked >asked; exit 0' TERM; echo >&5; exec 5>&-; while :; do sleep 0.02; done",
      {
        end: 100,
      },
    );
    await polite.stop();
    expect(said('asked')).toBe('asked\n');
    const stubborn = await start("trap '' TERM; echo >&5; exec 5>&-; while :; do sleep 0.02; done", {
      end: 50,
      term: 100,
    });
    await stubborn.stop();
    expect(warnings).toEqual([expect.stringContaining('did not end in time')]);
  });

  it('may die: the process writes on, into nothing', async () => {
    const before = descriptors();
    const driver = await start('echo >&5; exit 3');
    await expect.poll(() => warnings).toEqual([expect.stringContaining('ended with exit status 3')]);
    for (let i = 0; i < 100; i++) {
      writeSync(driver.writers[0], Buffer.alloc(4096));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await driver.stop();
    expect(descriptors()).toBe(before);
  });

  it('leaves the descriptor that was taken to who took it', async () => {
    const driver = await start('echo >&5; exec 5>&-; cat <&3 >out');
    const stdout = driver.takeStdout();
    driver.closeWriters();
    writeSync(stdout, 'mine');
    closeSync(stdout);
    await driver.stop();
    expect(said('out')).toBe('mine');
  });
});
