import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { containerd } from '../../proto/gen/shim.js';
import { install, makeBundle, run, runAsync, writeProgram } from './testing.ts';

let launcher: string;
beforeEach(() => {
  launcher = install('exit 9').launcher;
});

/** A bundle whose server saved that its runc is a script, and that script's state. */
function setUp(script: string, name = 'runc') {
  const { bundle, sockets } = makeBundle({ linux: { cgroupsPath: '/no-such-parent/c1' } });
  const root = join(bundle, '../../state');
  const state = join(root, 'ns/c1');
  const binary = join(bundle, name);
  writeProgram(binary, script);
  const save = () =>
    writeFileSync(
      join(bundle, 'options.json'),
      JSON.stringify({ binary_name: binary, root, systemd_cgroup: true }),
    );
  save();
  return { bundle, sockets, root, state, save };
}

function remove(bundle: string) {
  const answer = join(bundle, '../answer');
  const { status, stderr } = run('/bin/sh', [
    '-c',
    '"$0" -namespace ns -address /c.sock -id c1 -bundle "$1" delete >"$2"',
    launcher,
    bundle,
    answer,
  ]);
  return { status, stderr, response: containerd.task.v2.DeleteResponse.decode(readFileSync(answer)) };
}

/** True once the process is gone or a zombie. */
async function ends(pid: number): Promise<boolean> {
  for (let tries = 0; tries < 100; tries += 1) {
    const stat = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : ') Z';
    if (/\) [ZX]/.test(stat)) return true;
    await new Promise((r) => setTimeout(r, 10));
  }
  return false;
}

function background(command: string, args: string[], cwd?: string): number {
  const child = spawn(command, args, { stdio: 'ignore', detached: true, ...(cwd ? { cwd } : {}) });
  onTestFinished(() => {
    try {
      process.kill(-(child.pid ?? 0), 'SIGKILL');
    } catch {
      // It has ended, as it should.
    }
  });
  return child.pid ?? 0;
}

describe('delete', () => {
  it('answers as if by SIGKILL, now, with the pid that runc wrote; twice, and without a bundle', () => {
    const { bundle } = makeBundle();
    writeFileSync(join(bundle, 'init.pid'), '4194304');
    for (let n = 0; n < 2; n += 1) {
      const { status, stderr, response } = remove(bundle);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect([response.pid, response.exitStatus]).toEqual([4194304, 137]);
      expect(Math.abs(Number(response.exitedAt?.seconds) - Date.now() / 1000)).toBeLessThan(10);
    }
    const gone = remove(join(bundle, '../other'));
    expect(gone).toMatchObject({ status: 0, stderr: '', response: { pid: 0, exitStatus: 137 } });
  });

  it('finds the bundle beside the one it is run in', async () => {
    const { bundle } = makeBundle();
    writeFileSync(join(bundle, 'init.pid'), '17');
    mkdirSync(join(bundle, '../other'));
    const ran = await runAsync(launcher, ['-namespace', 'ns', '-id', 'c1', 'delete'], {
      cwd: join(bundle, '../other'),
    });
    expect(
      containerd.task.v2.DeleteResponse.decode(Buffer.from(ran.stdout, 'latin1').subarray(0, 2)).pid,
    ).toBe(17);
  });

  it('runs runc where it has state, with our CRIU first in its PATH, and then removes that', () => {
    const { bundle, root, state } = setUp('echo "$*|$PATH|$NOTIFY_SOCKET" >>../calls');
    mkdirSync(join(state, 'criu-root'), { recursive: true });
    writeFileSync(join(state, 'state.json'), '{');
    const { stderr } = run('/bin/sh', [
      '-c',
      'cd "$1"; NOTIFY_SOCKET=/n exec "$0" -namespace ns -id c1 -bundle "$1" delete',
      launcher,
      bundle,
    ]);
    expect(stderr).toBe('');
    expect(readFileSync(join(bundle, '../calls'), 'utf8')).toMatch(
      new RegExp(
        `^--root ${root.replace(/.*/, join(root))}/ns --log-format json --systemd-cgroup delete --force c1\\|.*/1\\.2\\.3/criu:/usr/bin:/bin\\|\n$`,
      ),
    );
    expect(existsSync(state)).toBe(false);
  });

  it('does not run runc where it has no state', () => {
    const { bundle } = setUp('echo ran >>"$0.calls"');
    expect(remove(bundle).stderr).toBe('');
    expect(existsSync(join(bundle, 'runc.calls'))).toBe(false);
  });

  it('runs another program whatever there is, and leaves its state to it', () => {
    const { bundle, state } = setUp('echo ran >>"$0.calls"', 'crun');
    expect(remove(bundle).stderr).toBe('');
    mkdirSync(state, { recursive: true });
    expect(remove(bundle).stderr).toBe('');
    expect(readFileSync(join(bundle, 'crun.calls'), 'utf8')).toBe('ran\nran\n');
    expect(existsSync(state)).toBe(true);
  });

  it.each([
    [
      'what runc says',
      `echo '{"level":"info","msg":"x"}' >&2; echo '{"level":"error","msg":"no luck"}' >&2; exit 1`,
      'no luck',
    ],
    ['its last line', 'echo "panic: x" >&2; exit 2', 'panic: x'],
    ['its status', 'exit 2', 'runc ended with exit status 2'],
    ['its signal', 'kill -KILL $$', 'runc ended with exit status 137'],
  ])('warns with %s, in one line, and goes on', (_, script, reason) => {
    const { bundle, state } = setUp(script);
    mkdirSync(state, { recursive: true });
    const { status, stderr } = remove(bundle);
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: `Cannot delete the container in runc: ${reason}\n`,
    });
    expect(existsSync(state)).toBe(false);
  });

  it('takes a container that runc does not know for deleted', () => {
    const { bundle, state } = setUp(`echo '{"level":"error","msg":"container does not exist"}' >&2; exit 1`);
    mkdirSync(state, { recursive: true });
    expect(remove(bundle).stderr).toBe('');
  });

  it('gives runc three and a half seconds, then ends all of it', async () => {
    const { bundle, state } = setUp('sleep 100 & echo $! >../child; wait');
    mkdirSync(state, { recursive: true });
    const { stderr } = run('/bin/sh', [
      '-c',
      'cd "$1" && exec "$0" -namespace ns -id c1 -bundle "$1" delete',
      launcher,
      bundle,
    ]);
    expect(stderr).toBe('Cannot delete the container in runc: runc did not end within 3500 ms\n');
    expect(await ends(Number(readFileSync(join(bundle, '../child'), 'utf8')))).toBe(true);
  });

  it('ends runc with itself when containerd kills it', async () => {
    const { bundle, state } = setUp('echo $$ >../runc.pid; exec sleep 100');
    mkdirSync(state, { recursive: true });
    const child = spawn(launcher, ['-namespace', 'ns', '-id', 'c1', '-bundle', bundle, 'delete'], {
      stdio: 'ignore',
      cwd: bundle,
    });
    const file = join(bundle, '../runc.pid');
    for (let tries = 0; !existsSync(file) && tries < 200; tries += 1)
      await new Promise((r) => setTimeout(r, 10));
    await new Promise((r) => setTimeout(r, 20));
    child.kill('SIGKILL');
    expect(await ends(Number(readFileSync(file, 'utf8')))).toBe(true);
  });

  it('ends the runc of a killed shim and all below it, and nobody else’s', async () => {
    const { bundle, root } = setUp('exit 0');
    const start = (id: string, dir: string) =>
      background('/bin/sh', [
        '-c',
        'sleep 100 & echo $! >"$0"; wait',
        join(bundle, `../${id}.child`),
        '--root',
        dir,
        'create',
        id,
      ]);
    const ours = start('c1', join(root, 'ns'));
    const others = [
      start('c2', join(root, 'ns')),
      start('c1x', join(root, 'ns')),
      background('/bin/sh', ['-c', 'sleep 100', 'x', '--root', join(root, 'other'), 'c1']),
    ];
    for (let tries = 0; !existsSync(join(bundle, '../c1.child')) && tries < 200; tries += 1)
      await new Promise((r) => setTimeout(r, 10));
    expect(remove(bundle).stderr).toBe('');
    expect(await ends(ours)).toBe(true);
    expect(await ends(Number(readFileSync(join(bundle, '../c1.child'), 'utf8')))).toBe(true);
    for (const pid of others) expect(process.kill(pid, 0)).toBe(true);
  });

  it('ends what a killed runc had started in the bundle, and nobody else there', async () => {
    const { bundle } = setUp('exit 0');
    // The shell leads a session and ends; what it leaves does not.
    const file = join(bundle, '../orphan');
    const leader = background('/bin/sh', ['-c', 'sleep 100 & echo $! >"$0"', file], bundle);
    const shell = background('/bin/sleep', ['100'], bundle);
    expect(await ends(leader)).toBe(true);
    const pid = Number(readFileSync(file, 'utf8'));
    onTestFinished(() => void (existsSync(`/proc/${pid}`) && process.kill(pid, 'SIGKILL')));
    expect(remove(bundle).stderr).toBe('');
    expect(await ends(pid)).toBe(true);
    expect(process.kill(shell, 0)).toBe(true);
  });

  it('ends the CRIU that works for the container', async () => {
    const { bundle } = setUp('exit 0');
    const work = join(bundle, '../../work-of-c1');
    mkdirSync(join(work, 'criu'), { recursive: true });
    execFileSync('ln', ['-s', work, join(bundle, 'work')]);
    execFileSync('cp', ['/bin/sleep', join(bundle, '../criu')]);
    const ours = background(join(bundle, '../criu'), ['100'], join(work, 'criu'));
    const elsewhere = background(join(bundle, '../criu'), ['100'], bundle);
    const editor = background('/bin/sleep', ['100'], work);
    await new Promise((r) => setTimeout(r, 50));
    expect(remove(bundle).stderr).toBe('');
    expect(await ends(ours)).toBe(true);
    for (const pid of [elsewhere, editor]) expect(process.kill(pid, 0)).toBe(true);
  });

  it('leaves alone a process that has the pid of one that is gone', async () => {
    const { bundle } = setUp('exit 0');
    const pid = background('/bin/sleep', ['100']);
    writeFileSync(join(bundle, 'init.pid'), String(pid));
    expect(remove(bundle).response.pid).toBe(pid);
    expect(process.kill(pid, 0)).toBe(true);
  });

  it('removes the folders that CRIU’s log names, and no others', () => {
    const { bundle } = setUp('exit 0');
    const work = join(bundle, 'work/criu');
    mkdirSync(work, { recursive: true });
    const ours = `/tmp/.criu.cgyard.${process.pid.toString(36).padStart(6, 'T').slice(-6)}`;
    const other = `${ours}x`;
    for (const folder of [ours, other]) mkdirSync(join(folder, 'deep'), { recursive: true });
    onTestFinished(() => void execFileSync('rm', ['-rf', ours, other]));
    writeFileSync(
      join(work, 'restore.log'),
      `(00.1) cg: made ${ours}/x\n(00.2) ${other} /tmp/.criu../../x\n`,
    );
    expect(remove(bundle).stderr).toBe('');
    expect([existsSync(ours), existsSync(other)]).toEqual([false, true]);
  });

  it('removes the socket of a dead server and keeps that of a living one', async () => {
    const { bundle, sockets } = setUp('exit 0');
    mkdirSync(sockets);
    const path = join(sockets, 'socket');
    writeFileSync(join(bundle, 'address'), `unix://${path}`);
    const server = createServer().listen(path);
    await new Promise((resolve) => server.once('listening', resolve));
    const ran = await runAsync(launcher, ['-namespace', 'ns', '-id', 'c1', '-bundle', bundle, 'delete']);
    expect(ran.status).toBe(0);
    expect(readdirSync(sockets)).toEqual(['socket']);
    await new Promise((resolve) => server.close(resolve));
    execFileSync(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => process.exit(0))`,
    ]);
    expect(readdirSync(sockets)).toEqual(['socket']);
    expect(remove(bundle).stderr).toBe('');
    expect(readdirSync(sockets)).toEqual([]);
  });

  it.each(['{', '[]', '', '\0', '{"root": 7}'])('takes options %j, cut off by a crash, for none', (text) => {
    const { bundle } = setUp('exit 0');
    writeFileSync(join(bundle, 'options.json'), text);
    expect(remove(bundle).status).toBe(0);
  });

  it('says that it cannot read a broken config.json, and goes on', () => {
    const { bundle } = setUp('exit 0');
    writeFileSync(join(bundle, 'config.json'), '{');
    const { status, stderr } = remove(bundle);
    expect(status).toBe(0);
    expect(stderr).toMatch(/^Cannot read ".*config.json": .*\n$/);
  });
});
