import { chmodSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createContainerd } from '../cli/containerd/index.ts';
import { containerd as api } from '../proto/gen/shim.js';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  Daemon,
  image,
  type Leftovers,
  layer,
  privateDir,
  run,
  sleep,
  takeStock,
  until,
} from './lib/index.ts';

const SHIM = '/opt/thaw/current/bin/containerd-shim-thaw-v2';
const RUNTIME = ['--runtime', 'io.containerd.runc.thaw.v2'];
const IMAGE = 'test.local/busybox:1';

let containerd: Containerd;
let before: Leftovers;
const ctr = (...args: string[]) => containerd.ctr(args, { allowFailure: true });
/** `ctr run` with our shim: options, id, command. */
const ctrRun = (options: string[], id: string, ...command: string[]) =>
  ctr('run', ...RUNTIME, ...options, IMAGE, id, ...command);
const status = async (id: string) =>
  (await ctr('task', 'ls')).stdout
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .find(([name]) => name === id)?.[2];
const shims = () =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return args.at(-2) === 'serve' ? [{ pid: Number(pid), id: args[args.indexOf('-id') + 1] }] : [];
      } catch {
        return [];
      }
    });

beforeAll(async () => {
  containerd = await Containerd.start();
  await containerd.importImage(IMAGE, image([await layer(busybox())], { cmd: ['sh'] }));
});
afterAll(async () => {
  await containerd.stop();
});
beforeEach(() => {
  before = takeStock();
});
afterEach(async () => {
  await containerd.removeContainers();
  // ctr leaves the fifos of an exec that it detached from.
  await assertNothingLeft(before, 10_000, [/^files: \/run\/containerd\/fifo\/\d+(\/side-std\w+)?$/]);
});

describe('the shim under containerd', () => {
  it('runs a container: both streams, exit code, nothing left', async () => {
    const ran = await ctrRun(['--rm'], 'one', 'sh', '-c', 'echo "pid $$"; echo no >&2; exit 7');
    expect(ran).toEqual({ code: 7, stdout: 'pid 1\n', stderr: 'no\n' });
  });

  it('carries large output whole', async () => {
    const ran = await ctrRun(['--rm'], 'big', 'sh', '-c', 'head -c 3000000 /dev/zero; echo end');
    expect(ran.stdout.length).toBe(3_000_004);
    expect(ran.stdout.endsWith('end\n')).toBe(true);
  });

  it('shows the image to a container with a user namespace as its own', async () => {
    const map = ['--uidmap', '0:100000:65536', '--gidmap', '0:100000:65536', '--remap-labels'];
    // Where containerd's own state lies, others may pass too.
    for (const dir of ['.', ...readdirSync('/run/test')]) chmodSync(join('/run/test', dir), 0o711);
    const look = 'cat /proc/self/uid_map; stat -c "%u %g" /bin; echo > /new && stat -c "%u %g" /new';
    const ran = await ctrRun(['--rm', ...map], 'mapped', 'sh', '-c', look);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout.split(/\s+/).filter(Boolean)).toEqual(['0', '100000', '65536', '0', '0', '0', '0']);
  });

  it('passes input on, and its end', async () => {
    // ctr forgets an end of input that comes before it is ready for one, so it comes when the container runs.
    const ready = `for i in $(seq 100); do ctr --address ${containerd.socket} task ls | grep -q RUNNING && break; sleep 0.1; done`;
    const ran = await run(
      'sh',
      [
        '-c',
        `(${ready}; sleep 1; echo hello) | ctr --address ${containerd.socket} run --rm ${RUNTIME.join(' ')} ${IMAGE} in cat`,
      ],
      { timeoutMs: 30_000 },
    );
    expect(ran.stdout).toBe('hello\n');
  });

  it('writes to a file that a file:// URI names', async () => {
    const file = join(privateDir('log'), 'logs', 'out.log');
    await ctrRun(['-d', '--log-uri', `file://${file}`], 'logged', 'sh', '-c', 'echo out; echo err >&2');
    await until('the container to end', async () => (await status('logged')) === 'STOPPED');
    await ctr('task', 'rm', 'logged');
    expect(readFileSync(file, 'utf8').split('\n').sort()).toEqual(['', 'err', 'out']);
  });

  it('reports the signal that ended a container', async () => {
    await ctrRun(['-d', '--null-io'], 'killed', 'sleep', '1000');
    expect(await status('killed')).toBe('RUNNING');
    await ctr('task', 'kill', '-s', 'KILL', 'killed');
    await until('the kill to be seen', async () => (await status('killed')) === 'STOPPED');
    expect((await ctr('task', 'kill', '-s', 'KILL', 'killed')).stderr).toMatch(
      /process already finished|not found/,
    );
    expect((await ctr('task', 'rm', 'killed')).stderr).toContain('exit code 137');
  });

  it('refuses to delete a running container and one that is not there', async () => {
    await ctrRun(['-d', '--null-io'], 'busy', 'sleep', '1000');
    expect((await ctr('task', 'rm', 'busy')).code).toBe(1);
    expect(await status('busy')).toBe('RUNNING');
  });

  it('says which program is missing and leaves nothing', async () => {
    const ran = await ctrRun(['--rm'], 'none', 'no-such-program');
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/OCI runtime create failed: .*no-such-program.*not found/);
  });

  it('gives a container the limit of open files that containerd has, as containerd’s own shim does', async () => {
    const limits = ['sh', '-c', 'ulimit -Sn; ulimit -Hn'];
    const stock = await ctr('run', '--rm', IMAGE, 'stock', ...limits);
    const ours = await ctrRun(['--rm'], 'ours', ...limits);
    expect(ours.stdout).toMatch(/^\d+\n\d+\n$/);
    expect(ours.stdout).toBe(stock.stdout);
  });

  it('pauses and resumes', async () => {
    await ctrRun(['-d', '--null-io'], 'frozen', 'sh', '-c', 'while :; do sleep 0.1; done');
    await ctr('task', 'pause', 'frozen');
    expect(await status('frozen')).toBe('PAUSED');
    const refused = await ctr('task', 'exec', '--exec-id', 'e', 'frozen', 'true');
    expect(refused.stderr).toContain('paused');
    await ctr('task', 'resume', 'frozen');
    expect(await status('frozen')).toBe('RUNNING');
  });

  it('runs twenty containers at once', async () => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, i) => ctrRun(['--rm'], `many-${i}`, 'sh', '-c', `echo ${i}; exit ${i}`)),
    );
    expect(results.map((r) => [r.code, r.stdout])).toEqual(results.map((_, i) => [i, `${i}\n`]));
  });
});

describe('exec', () => {
  it('has streams, exit code and signal of its own', async () => {
    await ctrRun(['-d', '--null-io'], 'main', 'sleep', '1000');
    const exec = (id: string, ...command: string[]) =>
      ctr('task', 'exec', '--exec-id', id, 'main', ...command);
    expect(await exec('a', 'sh', '-c', 'echo out; echo err >&2; exit 5')).toEqual({
      code: 5,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    expect((await exec('b', 'sh', '-c', 'kill -TERM $$')).code).toBe(143);
    expect((await exec('c', 'no-such-program')).stderr).toContain('no-such-program');
    expect(await status('main')).toBe('RUNNING');
  });

  it('is listed among the processes with its id', async () => {
    await ctrRun(['-d', '--null-io'], 'main', 'sleep', '1000');
    await ctr('task', 'exec', '-d', '--exec-id', 'side', 'main', 'sleep', '1000');
    const { stdout } = await ctr('task', 'ps', 'main');
    expect(stdout).toMatch(/exec_?id:\\?"side|side/i);
    expect(stdout.trim().split('\n')).toHaveLength(3);
    await ctr('task', 'kill', '--exec-id', 'side', '-s', 'KILL', 'main');
    await until('the exec to end', async () => !(await ctr('task', 'ps', 'main')).stdout.includes('side'));
    expect(await status('main')).toBe('RUNNING');
  });

  it('is refused when the container has ended', async () => {
    await ctrRun(['-d', '--null-io'], 'over', 'true');
    await until('the end', async () => (await status('over')) === 'STOPPED');
    expect((await ctr('task', 'exec', '--exec-id', 'late', 'over', 'true')).stderr).toContain(
      'cannot exec in a stopped state',
    );
  });
});

describe('the server', () => {
  const server = (id: string) => shims().find((shim) => shim.id === id)?.pid ?? 0;
  const descriptors = (pid: number) => readdirSync(`/proc/${pid}/fd`).length;
  const zombies = (parent: number) =>
    readdirSync('/proc').filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/stat`, 'utf8').includes(`) Z ${parent} `);
      } catch {
        return false;
      }
    }).length;

  it('keeps no descriptor and no zombie of what has ended, also where it adopts what containers leave', async () => {
    const nodePids = ['--with-ns', 'pid:/proc/1/ns/pid'];
    await ctrRun(['-d', '--null-io', ...nodePids], 'main', 'sleep', '1000');
    const exec = (n: number) =>
      ctr('task', 'exec', '--exec-id', `e${n}`, 'main', 'sh', '-c', 'sleep 0.3 & echo x');
    await exec(0);
    const pid = server('main');
    const fds = descriptors(pid);
    for (let n = 1; n <= 10; n += 1) expect((await exec(n)).stdout).toBe('x\n');
    await until(
      'what was left to end',
      async () => (await ctr('task', 'ps', 'main')).stdout.trim().split('\n').length === 2,
    );
    await until('what ended to be reaped', () => zombies(pid) === 0);
    expect(descriptors(pid)).toBeLessThanOrEqual(fds);
  });

  it('takes a socket over whose server was killed', async () => {
    const group = ['--annotation', 'io.containerd.runc.v2.group=team'];
    await ctrRun(['-d', '--null-io', ...group], 'first', 'sleep', '1000');
    await ctrRun(['-d', '--null-io', ...group], 'second', 'sleep', '1000');
    expect(shims().map(({ id }) => id)).toEqual(['first']);
    process.kill(server('first'), 'SIGKILL');
    await until('both to be gone', async () => (await ctr('task', 'ls', '-q')).stdout === '');
    for (const id of ['first', 'second']) await ctr('container', 'rm', id);
    expect((await ctrRun(['--rm', ...group], 'third', 'echo', 'up')).stdout).toBe('up\n');
  });
});

describe('events', () => {
  it('come in order: start before exit, an exec’s exit before the init’s', async () => {
    const log = join(privateDir('events'), 'events.log');
    const events = await Daemon.start('ctr', ['--address', containerd.socket, 'events'], {
      log,
      ready: async () => {
        await sleep(300);
        return true;
      },
    });
    try {
      await ctrRun(['-d', '--null-io'], 'told', 'sh', '-c', 'sleep 1; exit 3');
      await ctr('task', 'exec', '-d', '--exec-id', 'side', 'told', 'sleep', '1000');
      await until('the end', async () => (await status('told')) === 'STOPPED');
      await ctr('task', 'rm', 'told');
      await until('the last event', () => readFileSync(log, 'utf8').includes('/tasks/delete'));
    } finally {
      await events.stop();
    }
    const seen = readFileSync(log, 'utf8')
      .split('\n')
      .flatMap((line) => {
        const match = /(\/tasks\/\S+) (\{.*\})/.exec(line);
        if (!match) return [];
        const { id, exit_status: code } = JSON.parse(match[2] ?? '{}') as {
          id?: string;
          exit_status?: number;
        };
        return [match[1] === '/tasks/exit' ? `${match[1]} ${id} ${code}` : match[1]];
      });
    expect(seen).toEqual([
      '/tasks/create',
      '/tasks/start',
      '/tasks/exec-added',
      '/tasks/exec-started',
      '/tasks/exit side 137',
      '/tasks/exit told 3',
      '/tasks/delete',
    ]);
  });
});

describe('recovery', () => {
  it('finds a container as it was after containerd was killed', async () => {
    await ctrRun(['-d', '--null-io'], 'stays', 'sleep', '1000');
    await containerd.kill();
    await containerd.restart();
    expect(await status('stays')).toBe('RUNNING');
    expect((await ctr('task', 'exec', '--exec-id', 'e', 'stays', 'echo', 'here')).stdout).toBe('here\n');
  });

  it('reports an exit that came while containerd was away (containerd#6771)', async () => {
    await ctrRun(['-d', '--null-io'], 'went', 'sh', '-c', 'sleep 2; exit 4');
    await containerd.kill();
    await sleep(3000);
    await containerd.restart();
    await until('the exit to be known', async () => (await status('went')) === 'STOPPED');
    expect((await ctr('task', 'rm', 'went')).stderr).toContain('exit code 4');
  });

  it('leaves nothing when the shim is killed', async () => {
    await ctrRun(['-d', '--null-io'], 'orphan', 'sleep', '1000');
    const shim = shims().find(({ id }) => id === 'orphan');
    expect(shim).toBeDefined();
    process.kill(shim?.pid ?? 0, 'SIGKILL');
    await until('the container to be gone', async () => (await status('orphan')) === undefined);
    await ctr('container', 'rm', 'orphan');
    await assertNothingLeft(before, 5000);
    // The same id works again.
    expect((await ctrRun(['--rm'], 'orphan', 'echo', 'again')).stdout).toBe('again\n');
  });
});

describe('checkpoint', () => {
  it('dumps a container that runs, is paused, or ends with the dump', async () => {
    const dir = privateDir('dump');
    const client = await createContainerd({ address: containerd.socket, namespace: 'default' });
    const dump = (imagePath: string, exit: boolean) =>
      client.tasks.checkpoint('model', {
        exit,
        imagePath,
        workPath: '',
        openTcp: false,
        externalUnixSockets: false,
        fileLocks: false,
      });
    try {
      await ctrRun(['-d', '--null-io'], 'model', 'sh', '-c', 'while :; do echo x >>/ticks; sleep 0.1; done');
      await dump(`${dir}/running`, false);
      expect(await status('model')).toBe('RUNNING');
      await client.tasks.pause('model');
      await dump(`${dir}/paused`, false);
      expect(await status('model')).toBe('PAUSED');
      await client.tasks.resume('model');
      const ticks = async () =>
        (await ctr('task', 'exec', '--exec-id', 'ticks', 'model', 'cat', '/ticks')).stdout.length;
      const seen = await ticks();
      await until('the workload to go on', async () => (await ticks()) > seen);
      await dump(`${dir}/ended`, true);
      await until('the workload to end', async () => (await status('model')) === 'STOPPED');
    } finally {
      client.close();
    }
    for (const name of ['running', 'paused', 'ended'])
      expect(readdirSync(`${dir}/${name}`)).toEqual(
        expect.arrayContaining(['inventory.img', 'thaw-dump.json']),
      );
  });

  it('names the resource that cannot be dumped, and the workload goes on', async () => {
    const dir = privateDir('dump');
    // CRIU cannot dump a PID namespace inside the container's.
    const nested = ['busybox', 'unshare', '-p', '-f', 'sleep', '1000'];
    await ctrRun(['-d', '--null-io', '--cap-add', 'CAP_SYS_ADMIN'], 'nested', ...nested);
    await until(
      'the namespace',
      async () => (await ctr('task', 'ps', 'nested')).stdout.split('\n').length > 3,
    );
    const refused = await ctr('task', 'checkpoint', '--image-path', `${dir}/a`, 'nested');
    expect(refused.stderr).toMatch(/OCI runtime checkpoint failed: .*PID namespace.*criu-dump\.log/i);
    await until('the workload to go on', async () => (await status('nested')) === 'RUNNING');
  });
});

describe('the program itself', () => {
  it('prints its version', async () => {
    expect((await run(SHIM, ['-v'])).stdout).toMatch(
      /^containerd-shim-thaw-v2:\n {2}Version: {2}\d+\.\d+\.\d+/,
    );
  });

  it('answers -info with a RuntimeInfo', async () => {
    const { stdout } = await run('sh', ['-c', `${SHIM} -info | base64`]);
    const info = api.types.RuntimeInfo.decode(Buffer.from(stdout, 'base64'));
    expect(info.name).toBe('io.containerd.runc.thaw.v2');
    expect(JSON.parse(Buffer.from(info.features?.value ?? []).toString())).toHaveProperty('ociVersionMin');
  });

  it('deletes what is not there within five seconds, twice, with an answer on stdout', async () => {
    const bundle = privateDir('bundle');
    for (let i = 0; i < 2; i += 1) {
      const { stdout } = await run(
        'sh',
        ['-c', `${SHIM} -namespace default -address /x -id nothing -bundle ${bundle} delete | base64`],
        { cwd: bundle, timeoutMs: 5000 },
      );
      const response = api.task.v2.DeleteResponse.decode(Buffer.from(stdout, 'base64'));
      expect(response.exitStatus).toBe(137);
    }
  });

  it('refuses what it does not know', async () => {
    const refused = await run(SHIM, ['-nonsense', 'start'], { allowFailure: true });
    expect(refused).toMatchObject({ code: 1, stderr: 'flag provided but not defined: -nonsense\n' });
  });
});
