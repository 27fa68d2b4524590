/** Images that somebody has changed to get more than the container is granted, restored by shim, runc and CRIU. */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import {
  forgeFilters,
  forgeLimits,
  forgeNoFilter,
  forgeries,
  forgeUser,
} from '../shim/restore/forge.test-helper.ts';
import { type Peer, peer as peerOf } from './conformance/shim/peer.ts';
import { Rig, type Task } from './conformance/shim/rig.ts';
import { privateDir, until } from './lib/index.ts';

/** Counts, and says when asked how far it is and whether it could make a directory. */
const COUNTER = [
  'sh',
  '-c',
  `n=0; while :; do n=$((n+1))
   [ -f /ask ] && { busybox mkdir /made 2>/dev/null && made=yes || made=no; echo $n $made >/new; busybox mv /new /count; rm /ask; }
   sleep 0.2; done`,
];
/** Without what makes directories. */
const seccomp = {
  defaultAction: 'SCMP_ACT_ALLOW',
  syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }],
};
const env = { ...process.env, PATH: `/opt/thaw/current/criu:${process.env['PATH']}` };
/** One of each kind; the others are held against the same images without CRIU, in image-excess.test.ts. */
const TRIED = [
  'seccomp off in an older form',
  'CAP_SYS_ADMIN',
  'a label',
  'no_new_privs off',
  'no credentials',
  "the node's net namespace",
  "the node's mnt namespace",
  'a user namespace of its own',
  'a key to a path of the node',
  'a file system on a disk',
  'another proc',
  'a plug-in',
  'a cgroup that is not below its own',
  'descriptors of runc',
];

let peer: Peer;
let rig: Rig;
let saved: string;
let reached: number;

beforeAll(async () => {
  peer = await peerOf('thaw');
  saved = join(privateDir('rights'), 'saved');
  rig = await Rig.start(peer);
  const source = await create();
  await source.client.start();
  reached = await until('a count', () => count(source));
  mkdirSync(saved, { recursive: true });
  await until('a dump', () =>
    // A process that is between vfork and exec cannot be seized.
    source.client.checkpoint(saved).then(
      () => true,
      () => {
        rmSync(saved, { recursive: true });
        mkdirSync(saved);
        return false;
      },
    ),
  );
  await source.remove();
  await rig.close();
});
afterAll(() => rmSync(join(saved, '..'), { recursive: true, force: true }));
beforeEach(async () => {
  rig = await Rig.start(peer);
});
afterEach(() => rig.close());

async function create(checkpoint?: string, user?: object): Promise<Task> {
  const task = await rig.create({
    args: COUNTER,
    env,
    seccomp,
    ...(user ? { user } : {}),
    ...(checkpoint ? { create: { checkpoint } } : {}),
  });
  // containerd makes it, as a link.
  mkdirSync(join(task.bundle, 'work'), { recursive: true });
  return task;
}

async function count(task: Task): Promise<number> {
  return Number((await ask(task)).count);
}

async function ask(task: Task): Promise<{ count: string; made: string }> {
  const root = `/proc/${(await task.client.state()).pid}/root`;
  writeFileSync(`${root}/ask`, '');
  await until('an answer', () => !existsSync(`${root}/ask`));
  const [count = '', made = ''] = readFileSync(`${root}/count`, 'utf8').trim().split(' ');
  return { count, made };
}

/** Images of its own, forged. */
async function forged(forge: (dir: string) => Promise<void>): Promise<string> {
  const dir = join(rig.work, 'forged');
  rmSync(dir, { recursive: true, force: true });
  cpSync(saved, dir, { recursive: true });
  await forge(dir);
  return dir;
}

it('control: unchanged, they are restored', async () => {
  const task = await create(await forged(async () => {}));
  await task.client.start();
  expect(await count(task)).toBeGreaterThan(reached);
  await task.remove();
});

it('CRIU is not run for images that ask for more than the container is granted', async () => {
  const tried = forgeries.filter(({ what }) => TRIED.includes(what));
  expect(tried).toHaveLength(TRIED.length);
  for (const { what, forge, reason } of tried) {
    const task = await create(await forged(forge));
    const message = await task.client.start().then(
      () => 'it was restored',
      (error: Error) => error.message,
    );
    expect(`${what}: ${message}`).toMatch(reason);
    expect(existsSync(join(task.bundle, 'work/restore.log'))).toBe(false);
    expect(existsSync(join(task.bundle, 'work/criu/restore.log'))).toBe(false);
    await task.client.delete();
    await task.shutdown();
  }
});

it('nor for a container with a profile of AppArmor, which a process that had none would not get', async () => {
  const task = await rig.create({
    ...{ args: COUNTER, env, seccomp, apparmorProfile: 'cri-containerd.apparmor.d' },
    create: { checkpoint: await forged(async () => {}) },
  });
  mkdirSync(join(task.bundle, 'work'), { recursive: true });
  await expect(task.client.start()).rejects.toThrow(
    /process \d+ runs without the pod's label cri-containerd\.apparmor\.d/,
  );
  expect(existsSync(join(task.bundle, 'work/criu/restore.log'))).toBe(false);
  await task.client.delete();
  await task.shutdown();
});

it('limits and oom_score_adj are those that the container would have anew', async () => {
  const limits = async (task: Task) => {
    const { pid } = await task.client.state();
    const hard = readFileSync(`/proc/${pid}/limits`, 'utf8')
      .split('\n')
      .map((line) => line.slice(47, 68));
    return [readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'), ...hard];
  };
  const anew = await create();
  await anew.client.start();
  const task = await create(await forged(forgeLimits));
  await task.client.start();
  expect(await count(task)).toBeGreaterThan(reached);
  expect(await limits(task)).toEqual(await limits(anew));
  await task.remove();
  await anew.remove();
});

it.each([
  ['filters that allow everything do', forgeFilters],
  ['no filter does', forgeNoFilter],
])("%s not take the place of the pod's", async (_, forge) => {
  const task = await create(await forged(forge));
  await task.client.start();
  const { count, made } = await ask(task);
  expect(Number(count)).toBeGreaterThan(reached);
  expect(made).toBe('no');
  await task.remove();
});

it('a process of another user is restored in a container of that user, and in no other', async () => {
  const images = await forged((dir) => forgeUser(dir, 1000));
  const task = await create(images, { uid: 1000, gid: 1000 });
  await task.client.start();
  const { pid, status } = await task.client.state();
  expect(status).toBe('RUNNING');
  const said = readFileSync(`/proc/${pid}/status`, 'utf8');
  for (const line of ['Uid', 'Gid']) expect(said).toMatch(new RegExp(`^${line}:(\t1000){4}$`, 'm'));
  expect(said).toMatch(/^CapEff:\t0+$/m);
  await task.remove();
  const other = await create(images, { uid: 1001, gid: 1001 });
  await expect(other.client.start()).rejects.toThrow(/runs as user 1000, the pod asks for user 1001/);
  await other.client.delete();
  await other.shutdown();
});
