import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import type { ChildOptions, ChildResult, Spawner } from '../process/spawn.ts';
import { checkpointArgs, restoreArgs } from './args.ts';
import { lastError, meansProcessGone } from './log.ts';
import { Runc } from './runc.ts';

/** Answers every call with one result, after writing `log` where runc would. */
class FakeRuncProgram implements Spawner {
  readonly calls: { file: string; args: readonly string[]; options: ChildOptions }[] = [];
  result: Partial<ChildResult> = {};
  log = '';

  async run(file: string, args: readonly string[], options: ChildOptions): Promise<ChildResult> {
    this.calls.push({ file, args, options });
    const at = args.indexOf('--log') + 1;
    if (this.log) await writeFile(args[at] ?? '', this.log);
    return { code: 0, signal: undefined, timedOut: false, stdout: '', ...this.result };
  }
}

let dir: string;
let program: FakeRuncProgram;
let runc: Runc;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runc-'));
  program = new FakeRuncProgram();
  runc = new Runc(
    {
      binary: 'runc',
      root: '/run/containerd/runc/default',
      systemdCgroup: false,
      env: { PATH: '/usr/bin' },
      logFile: join(dir, 'log.json'),
    },
    program,
  );
});
afterEach(() => rm(dir, { recursive: true }));

const errorLine = (msg: string) => `{"level":"error","msg":${JSON.stringify(msg)},"time":"t"}\n`;

describe('Runc', () => {
  it('passes the flags of containerd’s own shim', async () => {
    await runc.create({ id: 'c', bundle: '/b', pidFile: '/b/init.pid', noPivot: true });
    expect(program.calls[0]?.args).toEqual([
      ...['--root', '/run/containerd/runc/default', '--log', join(dir, 'log.json.1'), '--log-format', 'json'],
      ...['create', '--bundle', '/b', '--pid-file', '/b/init.pid', '--no-pivot', 'c'],
    ]);
  });

  it('asks again where runc could not freeze a container, but not for ever', async () => {
    program.result = { code: 1 };
    program.log = errorLine('unable to freeze');
    await expect(runc.pause('c')).rejects.toMatchObject({
      message: 'OCI runtime pause failed: unable to freeze',
    });
    expect(program.calls).toHaveLength(5);
    program.log = errorLine('container not running');
    await expect(runc.pause('c')).rejects.toThrow('container not running');
    expect(program.calls).toHaveLength(6);
  });

  it('quotes the last error of the log and keeps the log', async () => {
    program.result = { code: 1 };
    program.log = `${errorLine('first')}${errorLine('unable to start')}{"level":"info","msg":"bye"}\n{"lev`;
    await expect(runc.start('c')).rejects.toMatchObject({
      code: Code.unknown,
      message: 'OCI runtime start failed: unable to start',
    });
    expect(await readdir(dir)).toEqual(['log.json']);
    expect(await readFile(join(dir, 'log.json'), 'utf8')).toBe(program.log);
  });

  it('leaves no log file after a success', async () => {
    program.log = '{"level":"warning","msg":"w"}\n';
    await runc.start('c');
    expect(await readdir(dir)).toEqual([]);
  });

  it('maps a process that is gone to NotFound for kill, and to success for delete', async () => {
    program.result = { code: 1 };
    program.log = errorLine('container not running');
    await expect(runc.kill('c', 9)).rejects.toMatchObject({
      code: Code.notFound,
      message: 'process already finished',
    });
    program.log = errorLine('container does not exist');
    await runc.delete('c', true);
    await expect(runc.start('c')).rejects.toMatchObject({ code: Code.unknown });
  });

  it('says that a call took too long', async () => {
    program.result = { code: undefined, signal: 9, timedOut: true };
    await expect(runc.kill('c', 9, false, { deadlineMs: 5 })).rejects.toMatchObject({
      code: Code.deadlineExceeded,
      message: 'OCI runtime kill failed: runc did not end within 5 ms',
    });
  });

  it('says what to do when runc is not there', async () => {
    program.run = async () => {
      throw Object.assign(new Error('spawn runc ENOENT'), { code: 'ENOENT' });
    };
    await expect(runc.create({ id: 'c', bundle: '/b', pidFile: '/p' })).rejects.toMatchObject({
      code: Code.failedPrecondition,
      message: 'Cannot find "runc"; install runc or set BinaryName',
    });
  });

  it('reads pids, also of an empty cgroup, and refuses other output', async () => {
    program.result = { stdout: '[1,22]' };
    expect(await runc.ps('c')).toEqual([1, 22]);
    program.result = { stdout: 'null' };
    expect(await runc.ps('c')).toEqual([]);
    program.result = { stdout: '["x"]' };
    await expect(runc.ps('c')).rejects.toMatchObject({ code: Code.internal });
  });

  it('reads the version', async () => {
    program.result = { stdout: 'runc version 1.3.6+ds1\ncommit: x\n' };
    expect(await runc.version()).toBe('1.3.6+ds1');
  });
});

describe('arguments', () => {
  it('of a checkpoint follow its options', () => {
    expect(
      checkpointArgs({
        id: 'c',
        imagePath: '/i',
        workPath: '/w',
        leaveRunning: true,
        tcpEstablished: true,
        externalUnixSockets: true,
        shellJob: true,
        fileLocks: true,
        emptyNamespaces: ['network'],
        extra: ['--link-remap'],
      }).slice(1),
    ).toEqual([
      ...['--image-path', '/i', '--work-path', '/w', '--tcp-established', '--ext-unix-sk', '--shell-job'],
      ...['--file-locks', '--empty-ns', 'network', '--leave-running', '--link-remap', 'c'],
    ]);
  });

  it('of a restore never make runc a subreaper', () => {
    const args = restoreArgs({ id: 'c', bundle: '/b', imagePath: '/i', workPath: '/w', pidFile: '/p' });
    expect(args).toContain('--no-subreaper');
    expect(args.at(-1)).toBe('c');
  });
});

describe('log', () => {
  it('has no error where nothing is an error', () => {
    expect(lastError('')).toBeUndefined();
    expect(lastError('[]\n5\n{"level":"info","msg":"x"}')).toBeUndefined();
  });

  it('knows runc’s words for a process that is gone', () => {
    expect(meansProcessGone('signal: OS: Process already finished')).toBe('process already finished');
    expect(meansProcessGone('container does not exist')).toBe('no such container');
    expect(meansProcessGone('permission denied')).toBeUndefined();
  });
});
