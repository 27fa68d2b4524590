/** What the launcher does: start, delete, and what is left of a shim that was killed at any moment. */
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { containerd as api, google } from '../proto/gen/shim.js';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  image,
  type Leftovers,
  layer,
  privateDir,
  run,
  sleep,
  takeStock,
  until,
} from './lib/index.ts';

const TREE = '/opt/thaw/current';
const SHIM = `${TREE}/bin/containerd-shim-thaw-v2`;
const RUNTIME = ['--runtime', 'io.containerd.runc.thaw.v2'];
const IMAGE = 'test.local/busybox:1';
/** ctr leaves the fifos of a task whose shim went away. */
const CTR_FILES = [/^files: \/run\/containerd\/fifo\//];

let containerd: Containerd;
let before: Leftovers;
const ctr = (...args: string[]) => containerd.ctr(args, { allowFailure: true });
const ctrRun = (options: string[], id: string, ...command: string[]) =>
  ctr('run', ...RUNTIME, ...options, IMAGE, id, ...command);
const status = async (id: string) =>
  (await ctr('task', 'ls')).stdout
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .find(([name]) => name === id)?.[2];

/** Pids of the servers that were started for a container, or for any. */
function servers(id?: string): number[] {
  return processes(
    (args) =>
      args.at(-2) === 'serve' && (id ?? args[args.indexOf('-id') + 1]) === args[args.indexOf('-id') + 1],
  );
}

function processes(match: (args: string[]) => boolean): number[] {
  return readdirSync('/proc').flatMap((pid) => {
    try {
      return match(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')) ? [Number(pid)] : [];
    } catch {
      return [];
    }
  });
}

function killServer(id: string): void {
  const [pid] = servers(id);
  expect(pid).toBeDefined();
  process.kill(pid ?? 0, 'SIGKILL');
}

/** The file of a spec with a hook that hangs, and says that it runs by being a process. ctr has no flag for hooks. */
async function specWithHook(id: string, hookName: string): Promise<string> {
  const dir = privateDir('hooked');
  mkdirSync(`${dir}/rootfs/bin`, { recursive: true });
  copyFileSync('/usr/bin/busybox', `${dir}/rootfs/bin/busybox`);
  const spec = JSON.parse((await run('ctr', ['oci', 'spec'])).stdout);
  spec.root = { path: `${dir}/rootfs` };
  spec.process.args = ['/bin/busybox', 'sleep', '1000'];
  spec.linux.cgroupsPath = `/default/${id}`;
  spec.hooks = { [hookName]: [{ path: '/usr/bin/sleep', args: ['sleep', '77'] }] };
  writeFileSync(`${dir}/spec.json`, JSON.stringify(spec));
  return `${dir}/spec.json`;
}
const hookRuns = () => processes((args) => args[0] === 'sleep' && args[1] === '77').length > 0;

function makeBundle(id: string): string {
  const bundle = join(privateDir('bundle'), id);
  mkdirSync(bundle);
  writeFileSync(join(bundle, 'config.json'), '{}');
  return bundle;
}
const argsOf = (id: string, action: string) => [
  '-namespace',
  'default',
  '-address',
  '/none',
  '-id',
  id,
  action,
];

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
  await assertNothingLeft(before, 15_000, CTR_FILES);
});

describe('a shim killed', () => {
  /** containerd has run delete, and the id can be used again. */
  async function expectGone(id: string) {
    await until('the task to be gone', async () => (await status(id)) === undefined);
    await ctr('container', 'rm', id);
    await assertNothingLeft(before, 5000, CTR_FILES);
    expect(await ctrRun(['--rm'], id, 'echo', 'again')).toMatchObject({ code: 0, stdout: 'again\n' });
  }

  it.each(['createRuntime', 'poststart'])(
    'while runc waits for a %s hook leaves nothing',
    async (hookName) => {
      const spec = await specWithHook('hooked', hookName);
      const running = ctr('run', ...RUNTIME, '-d', '--null-io', '--config', spec, 'hooked');
      await until('the hook', hookRuns);
      killServer('hooked');
      expect((await running).code).toBe(1);
      await expectGone('hooked');
    },
  );

  it('while the container runs leaves nothing', async () => {
    const nodePids = ['--with-ns', 'pid:/proc/1/ns/pid'];
    await ctrRun(['-d', '--null-io', ...nodePids], 'runs', 'sh', '-c', 'sleep 1000 & sleep 1000');
    await ctr('task', 'exec', '-d', '--exec-id', 'e', 'runs', 'sleep', '1000');
    killServer('runs');
    await expectGone('runs');
  });

  it('while the container is paused leaves nothing', async () => {
    await ctrRun(['-d', '--null-io'], 'frozen', 'sleep', '1000');
    await ctr('task', 'pause', 'frozen');
    killServer('frozen');
    await expectGone('frozen');
  });

  it('after the container ended leaves nothing', async () => {
    await ctrRun(['-d', '--null-io'], 'ended', 'true');
    await until('the end', async () => (await status('ended')) === 'STOPPED');
    killServer('ended');
    await expectGone('ended');
  });

  it('at any moment of a start leaves nothing', async () => {
    for (let n = 0; n < 12; n += 1) {
      const id = `any-${n}`;
      const running = ctrRun(['-d', '--null-io'], id, 'sleep', '1000');
      await until('the server', () => servers(id).length > 0);
      // From before the first call until after the last, on a machine as slow as this one is now.
      await sleep(n * 50);
      for (const pid of servers(id)) process.kill(pid, 'SIGKILL');
      const { stderr } = await running;
      await until(`${id} to be gone`, async () => (await status(id)) === undefined);
      await ctr('container', 'rm', id);
      // containerd forgets a server that was gone before it connected, and runs no `delete`: the socket stays until the
      // next start under that id.
      if (/ start shim: .*connection refused/.test(stderr))
        expect(await ctrRun(['--rm'], id, 'echo', 'again')).toMatchObject({ code: 0, stdout: 'again\n' });
      await assertNothingLeft(before, 10_000, CTR_FILES);
    }
  });
});

describe('start', () => {
  it('makes one server of two containers of a group at the same moment', async () => {
    const group = ['--annotation', 'io.containerd.runc.v2.group=pair'];
    for (let n = 0; n < 3; n += 1) {
      const ids = [`a${n}`, `b${n}`];
      const ran = await Promise.all(
        ids.map((id) => ctrRun(['-d', '--null-io', ...group], id, 'sleep', '1000')),
      );
      expect(ran.map(({ code, stderr }) => [code, stderr])).toEqual([
        [0, ''],
        [0, ''],
      ]);
      const made = servers();
      expect(made).toHaveLength(1);
      expect(await Promise.all(ids.map(status))).toEqual(['RUNNING', 'RUNNING']);
      // The server was killed: the next two find its socket.
      process.kill(made[0] ?? 0, 'SIGKILL');
      for (const id of ids) {
        await until(`${id} to be gone`, async () => (await status(id)) === undefined);
        await ctr('container', 'rm', id);
      }
    }
  });

  it('gives the server one more than containerd’s OOM score', async () => {
    await ctrRun(['-d', '--null-io'], 'scored', 'sleep', '1000');
    const score = (pid: number) => Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'));
    expect(score(servers('scored')[0] ?? 0)).toBe(Math.min(score(containerd.pid) + 1, 1000));
  });

  it('tells containerd why the server cannot run, and leaves nothing', async () => {
    const node = `${TREE}/bin/node`;
    renameSync(node, `${node}.away`);
    writeFileSync(node, 'no program', { mode: 0o755 });
    try {
      const ran = await ctrRun(['--rm'], 'unable', 'true');
      expect(ran.code).toBe(1);
      expect(ran.stderr).toMatch(/Cannot run ".*\/bin\/node": Exec format error/);
    } finally {
      renameSync(`${node}.away`, node);
    }
  });

  it('has containerd’s log say what a server wrote that failed', async () => {
    const node = `${TREE}/bin/node`;
    renameSync(node, `${node}.away`);
    // containerd runs `delete` for a server that it had reached; one that was gone before, it forgets.
    const fails = '#!/bin/sh\necho "GLIBC_2.99 not found" >&2; sleep 3; exit 127\n';
    writeFileSync(node, fails, { mode: 0o755 });
    try {
      expect((await ctrRun(['--rm'], 'failing', 'true')).code).toBe(1);
    } finally {
      renameSync(`${node}.away`, node);
    }
    expect(readFileSync(containerd.log, 'utf8')).toMatch(/server wrote: GLIBC_2\.99 not found/);
  });
});

describe('start without containerd', () => {
  it('puts the server into the cgroup that the options name, in every hierarchy', async () => {
    const bundle = makeBundle('alone');
    const mounts = readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .flatMap((line) => (/^\S+ \S+ cgroup /.test(line) ? [line.split(' ')[1] ?? ''] : []));
    for (const mount of mounts) mkdirSync(`${mount}/shims`);
    // A fresh cpuset takes no process before it has CPUs and memory.
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      const mount = mounts.find((each) => each.includes('cpuset')) ?? '';
      writeFileSync(`${mount}/shims/${file}`, readFileSync(`${mount}/${file}`, 'utf8'));
    }
    const value = api.runc.v1.Options.encode({ shimCgroup: '/shims' }).finish();
    const input = google.protobuf.Any.encode({ type_url: 'containerd.runc.v1.Options', value }).finish();
    await run(SHIM, argsOf('alone', 'start'), { cwd: bundle, input });
    const [pid] = servers('alone');
    const cgroups = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');
    expect(cgroups.filter((line) => line.endsWith(':/shims') || line.endsWith('/shims'))).toHaveLength(
      mounts.length,
    );
    process.kill(pid ?? 0, 'SIGKILL');
    await until('its end', () => servers('alone').length === 0);
    await run(SHIM, argsOf('alone', 'delete'), { cwd: bundle });
    await until('the cgroups to be empty', () => {
      for (const mount of mounts) rmdirSync(`${mount}/shims`);
      return true;
    }).catch(() => {});
    for (const mount of mounts) expect(readdirSync(mount)).not.toContain('shims');
  });
});
