/**
 * What a restored container has from its new pod: addresses, volumes, /dev/shm, limits; driven as a kubelet does. The rows
 * of the table in docs/kubernetes.md.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../native/index.ts';
import { hasSysResource } from '../shim/checkpoint/other-users.ts';
import { podCgroup } from './lib/cri/index.ts';
import { privateDir } from './lib/dirs.ts';
import {
  assertNothingLeft,
  busybox,
  image,
  type Leftovers,
  layer,
  push,
  takeStock,
  until,
} from './lib/index.ts';
import { KubeletNode, type Pod, type PodRequest } from './lib/kubelet-node.ts';

const REPOSITORY = 'test/pod-server';
const command = ['/pod-server'];
/** Their directories make an overlay's line in mountinfo longer than CRIU reads. */
const MORE_LAYERS = 110;
const TOKEN_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';

let node: KubeletNode;
let cold: string;
let warm: string;
let stock: Leftovers;
const pods: Pod[] = [];
const dirs: string[] = [];
const mounted: string[] = [];

/** A pod's volumes on the node, as the kubelet makes them: each pod has its own. */
interface Volumes {
  dir: string;
  mounts: NonNullable<PodRequest['mounts']>;
}

/** `revision` names the directory that the projected volume's files are in. */
function volumes(revision: string, token: string): Volumes {
  const dir = privateDir('volumes');
  dirs.push(dir);
  const at = (name: string) => join(dir, name);
  mkdirSync(at('data'), { mode: 0o777 });
  mkdirSync(at('config'));
  writeFileSync(at('config/settings'), `settings of ${revision}`);
  mkdirSync(at(`token/..${revision}`), { recursive: true });
  writeFileSync(at(`token/..${revision}/token`), token);
  symlinkSync(`..${revision}`, at('token/..data'));
  symlinkSync('..data/token', at('token/token'));
  for (const name of ['hosts', 'termination-log']) writeFileSync(at(name), `${name} of ${revision}\n`);
  const mounts = [
    { containerPath: '/data', hostPath: at('data') },
    { containerPath: '/config', hostPath: at('config'), readonly: true },
    { containerPath: TOKEN_DIR, hostPath: at('token'), readonly: true },
    { containerPath: '/etc/hosts', hostPath: at('hosts') },
    { containerPath: '/dev/termination-log', hostPath: at('termination-log') },
  ];
  return { dir, mounts };
}

const MAY_SAVE_OTHERS = hasSysResource(readFileSync('/proc/self/status', 'utf8'));
const USER = MAY_SAVE_OTHERS ? 1000 : 0;

/** Non-root, a read-only root file system, the default seccomp profile, masked paths. */
const secured = {
  runAsUser: USER,
  readonlyRootfs: true,
  seccomp: 'RuntimeDefault',
  fieldEnv: { POD_NAME: 'metadata.name', POD_UID: 'metadata.uid' },
} as const satisfies Partial<PodRequest>;

async function run(request: Partial<PodRequest> & { mounts: Volumes['mounts'] }): Promise<Pod> {
  const pod = await node.runPod({ image: warm, command, ...secured, ...request });
  pods.push(pod);
  return pod;
}

async function removePods(): Promise<void> {
  for (const pod of pods.splice(0)) await node.removePod(pod);
  for (const tmpfs of mounted.splice(0)) native.umount(tmpfs, 0);
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true });
}

async function ipOf(pod: Pod): Promise<string> {
  return (await node.cri.podSandboxStatus(pod.podId)).network.ip;
}

/** Of a server that may be just starting. */
function ask(host: string, question: string, port = 9000): Promise<string> {
  return until(`an answer from ${host}:${port}`, () => tell(host, question, port));
}

/** Undefined without an answer. */
function tell(host: string, line: string, port = 9000): Promise<string | undefined> {
  const socket = connect({ host, port });
  return new Promise((resolve) => {
    let answer = '';
    socket.once('connect', () => socket.write(`${line}\n`));
    socket.on('data', (bytes) => {
      answer += bytes.toString();
    });
    socket.once('close', () => resolve(answer.trim() || undefined));
    socket.once('error', () => resolve(undefined));
    socket.setTimeout(5_000, () => socket.destroy());
  });
}

const saved = 'memory=secret shm=secret deleted=secret named=1 unnamed=1 pid=1';
const fresh = 'memory=none shm= deleted= named=0 unnamed=0 pid=1';
const shmOf = ({ podId }: Pod) =>
  join(dirname(node.containerd.socket), 'state/io.containerd.grpc.v1.cri/sandboxes', podId, 'shm');
const restored = async (pod: Pod) => (await node.startOf(pod)).includes('"restored"');

/** Bytes, from the container's own cgroup. */
function memoryLimit({ uid, containerId }: Pod): bigint {
  const files = ['memory/', ''].flatMap((controller) => {
    const dir = `/sys/fs/cgroup/${controller.slice(0, -1)}${podCgroup(uid)}/${containerId}`;
    return [`${dir}/memory.limit_in_bytes`, `${dir}/memory.max`];
  });
  const file = files.find((one) => existsSync(one));
  return BigInt(readFileSync(file ?? '', 'utf8'));
}

beforeAll(async () => {
  node = await KubeletNode.start();
  const server = { path: 'pod-server', mode: 0o755, content: readFileSync('/thaw/build/test/pod-server') };
  const more = Array.from({ length: MORE_LAYERS }, (_, i) => layer([{ path: `layers/${i}`, content: '' }]));
  const layers = [await layer(busybox()), ...(await Promise.all(more)), await layer([server])];
  cold = await push(node.registry.host, REPOSITORY, 'cold', image(layers, { cmd: command }));
  const pod = await run({ image: cold, ...volumes('first', 'token-1') });
  const ip = await ipOf(pod);
  await ask(ip, 'set secret');
  await ask(ip, 'post');
  expect(await ask(ip, 'get')).toBe(saved);
  writeFileSync(join(shmOf(pod), 'sibling'), 'of the first pod');
  warm = await node.checkpoint(pod, REPOSITORY, 'warm', `default/${pod.name}`);
  // The source went on, and has its files.
  expect(await ask(ip, 'get', 9001)).toBe(saved);
  expect(readdirSync(shmOf(pod)).sort()).toEqual(['data', 'sem.named', 'sibling']);
  await removePods();
  await node.forget(cold);
}, 120_000);
afterAll(() => node.stop());
beforeEach(() => {
  stock = takeStock();
});
afterEach(async () => {
  await removePods();
  await assertNothingLeft(stock);
});

it('has addresses, volumes, /dev/shm, limits and OOM score of the new pod, in two pods at once', async () => {
  const changes = [
    { ...volumes('second', 'token-2'), oomScoreAdj: 1000, memoryLimit: 256n << 20n },
    { ...volumes('third', 'token-3'), oomScoreAdj: 999, memoryLimit: 128n << 20n },
  ];
  const both = await Promise.all(changes.map(run));
  for (const [i, pod] of both.entries()) {
    const ip = await ipOf(pod);
    expect(await restored(pod)).toBe(true);
    // Port 9001 was bound to the first pod's address.
    for (const port of [9000, 9001]) expect(await ask(ip, 'get', port)).toBe(saved);
    await ask(ip, `set of-${i}`);
  }
  for (const [i, pod] of both.entries()) {
    expect(await ask(await ipOf(pod), 'get')).toBe(saved.replaceAll('secret', `of-${i}`));
    const revision = i === 0 ? 'second' : 'third';
    const read = (path: string) => node.exec(pod, 'cat', path);
    expect(await read('/config/settings')).toBe(`settings of ${revision}`);
    expect(await read(`${TOKEN_DIR}/token`)).toBe(`token-${i + 2}`);
    expect(await read('/etc/hosts')).toBe(`hosts of ${revision}\n`);
    expect(await read('/proc/1/oom_score_adj')).toBe(`${i === 0 ? 1000 : 999}\n`);
    const status = await read('/proc/1/status');
    expect(status).toMatch(new RegExp(`^Uid:(\\t${USER}){4}$`, 'm'));
    expect(status).toMatch(/^Seccomp:\t2$/m);
    // Its second thread has the same filters: the pod's own, and what it was started with.
    const threads = await node.exec(pod, 'sh', '-c', 'cat /proc/1/task/*/status');
    expect(threads.match(/^Seccomp_filters:\t2$/gm)).toHaveLength(2);
    const tried = 'echo x > /x; echo $?; cat /proc/timer_list /proc/keys | wc -c';
    expect(await node.exec(pod, 'sh', '-c', tried)).toMatch(/^1\n0\n$/);
    const limit = memoryLimit(pod);
    expect(limit).toBe(i === 0 ? 256n << 20n : 128n << 20n);
  }
});

it('starts beside an init container and a sidecar, and leaves alone what they have in /dev/shm', async () => {
  const { mounts } = volumes('first', 'token-1');
  const { config, ...sandbox } = await node.createSandbox({});
  const sandboxPod = { ...sandbox, containerId: '', logFile: '', again: () => Promise.reject() };
  pods.push(sandboxPod);
  const side = async (name: string, script: string) => {
    const request = { name, image: cold, command: ['sh', '-c', script] };
    const id = await node.createContainer(sandbox.podId, config, request);
    await node.cri.startContainer(id);
    return id;
  };
  const init = await side('init', 'echo init > /dev/shm/init');
  await until(
    'the init container to end',
    async () =>
      (await node.cri.containerStatus(init)).exitCode === 0 && existsSync(join(shmOf(sandboxPod), 'init')),
  );
  const sidecar = await side('sidecar', 'echo side > /dev/shm/side; exec sleep 1000');
  const file = join(shmOf(sandboxPod), 'side');
  await until('the sidecar', () => existsSync(file));
  const request = { image: warm, command, ...secured, mounts };
  const main = { ...sandboxPod, containerId: await node.createContainer(sandbox.podId, config, request) };
  await node.cri.startContainer(main.containerId);
  expect(await restored(main)).toBe(true);
  expect(await ask(await ipOf(main), 'get')).toBe(saved);
  expect(readdirSync(shmOf(main)).sort()).toEqual(['data', 'init', 'sem.named', 'sibling', 'side']);
  await node.cri.stopContainer(main.containerId, 5);
  // What was put there is taken away; what others made stays.
  await until('its files to go', () => !existsSync(join(shmOf(main), 'data')));
  expect(readdirSync(shmOf(main)).sort()).toEqual(['init', 'side']);
  expect((await node.cri.containerStatus(sidecar)).state).toBe('CONTAINER_RUNNING');
});

it('is probed, logs, ends with its grace period, and is restored again when it has failed', async () => {
  const pod = await run(volumes('first', 'token-1'));
  const ip = await ipOf(pod);
  expect(await (await fetch(`http://${ip}:9000/healthz`)).text()).toBe('ok');
  expect(await node.exec(pod, 'cat', '/proc/1/comm')).toBe('pod-server\n');
  await ask(ip, 'say here');
  await until('the log', () => /stdout F here$/m.test(readFileSync(pod.logFile, 'utf8')));
  await ask(ip, 'set changed');
  await tell(ip, 'exit 3');
  const ended = async (id: string) => {
    const status = await node.cri.containerStatus(id);
    return status.state === 'CONTAINER_EXITED' && status;
  };
  expect(await until('its end', () => ended(pod.containerId))).toMatchObject({ exitCode: 3 });
  const second = await pod.again();
  await node.cri.startContainer(second.containerId);
  expect(await restored(second)).toBe(true);
  expect(await ask(ip, 'get')).toBe(saved);
  await node.cri.stopContainer(second.containerId, 30);
  expect(await ended(second.containerId)).toMatchObject({ exitCode: 7 });
});

it.skipIf(MAY_SAVE_OTHERS)(
  'of another user it is not saved without CAP_SYS_RESOURCE, and goes on',
  async () => {
    const pod = await run({ image: cold, ...volumes('first', 'token-1'), runAsUser: 1000 });
    await ask(await ipOf(pod), 'set kept');
    await expect(node.checkpoint(pod, REPOSITORY, 'never')).rejects.toThrow(
      /it runs as user 1000, and CRIU may read .* only with CAP_SYS_RESOURCE/,
    );
    expect(await ask(await ipOf(pod), 'get')).toMatch(/^memory=kept /);
  },
);

describe('starts cold, and says why, where', () => {
  it('volumes, root file system, masks, devices and namespaces differ: each of it is named', async () => {
    const { mounts, dir } = volumes('first', 'token-1');
    const at = (path: string, change: object) =>
      mounts.filter(({ containerPath }) => containerPath === path).map((mount) => ({ ...mount, ...change }));
    const pod = await run({
      // No /config.
      mounts: [
        ...at('/data', { readonly: true }),
        ...at(TOKEN_DIR, { readonly: false }),
        ...at('/etc/hosts', {}),
        ...at('/dev/termination-log', {}),
        { containerPath: '/extra', hostPath: join(dir, 'data') },
      ],
      readonlyRootfs: false,
      masked: false,
      hostDevices: ['/dev/loop-control'],
      shareProcessNamespace: true,
    });
    const said = await node.startOf(pod);
    expect(said).toContain('starting cold');
    for (const reason of [
      /nothing is mounted at \/config now/,
      /the mount at \/extra is new/,
      /the mount at \/data was writable, now read-only/,
      /the mount at \S+serviceaccount was read-only, now writable/,
      /the root file system was read-only, now it is writable/,
      /\/proc\/kcore.* was masked, and is not now/,
      /\/proc\/sys.* was read-only, and is not now/,
      /\/dev\/loop-control is a new device/,
      /shares its process ids with others of its pod \(shareProcessNamespace\)/,
    ])
      expect(said).toMatch(reason);
    // In a shared namespace it is not the first process.
    expect(await ask(await ipOf(pod), 'get')).toMatch(new RegExp(fresh.replace(/pid=1$/, 'pid=')));
  });

  it('/dev/shm is too small', async () => {
    const { mounts, dir } = volumes('first', 'token-1');
    const shm = join(dir, 'shm');
    mkdirSync(shm);
    native.mount('tmpfs', shm, 'tmpfs', 0, 'mode=1777,size=4m');
    mounted.push(shm);
    const pod = await run({ mounts: [...mounts, { containerPath: '/dev/shm', hostPath: shm }] });
    expect(await node.startOf(pod)).toMatch(
      /the checkpoint has 83\d+ bytes in \/dev\/shm, and 4194304 are free there/,
    );
    expect(await ask(await ipOf(pod), 'get')).toBe(fresh);
  });

  it('another container has made a file of the same name in /dev/shm', async () => {
    const { mounts } = volumes('first', 'token-1');
    const { config, ...sandbox } = await node.createSandbox({});
    const main = { ...sandbox, containerId: '', logFile: '', again: () => Promise.reject() };
    pods.push(main);
    writeFileSync(join(shmOf(main), 'sibling'), 'theirs');
    const request = { image: warm, command, ...secured, mounts };
    main.containerId = await node.createContainer(sandbox.podId, config, request);
    await node.cri.startContainer(main.containerId);
    expect(await node.startOf(main)).toMatch(
      /\/dev\/shm\/sibling is there already and not what the checkpoint has/,
    );
    expect(await ask(await ipOf(main), 'get')).toBe(fresh);
    expect(readFileSync(join(shmOf(main), 'sibling'), 'utf8')).toBe('theirs');
  });
});

describe('a file that is open in a volume', () => {
  let held: string;
  const withModel = (revision: string, content: string | undefined) => {
    const made = volumes(revision, 'token');
    if (content !== undefined) writeFileSync(join(made.dir, 'data/model'), content, { mode: 0o644 });
    return made;
  };
  beforeAll(async () => {
    const pod = await run({ image: cold, ...withModel('first', 'abcdef') });
    const ip = await ipOf(pod);
    await ask(ip, 'set secret');
    await ask(ip, 'post');
    expect(await ask(ip, `open ${TOKEN_DIR}/token`)).toBe('ok');
    expect(await ask(ip, 'open /data/model')).toBe('ok');
    held = await node.checkpoint(pod, REPOSITORY, 'held');
    await removePods();
  });

  it("is the new pod's, at the same place", async () => {
    const pod = await run({ image: held, ...withModel('first', 'ABCDEF') });
    expect(await restored(pod)).toBe(true);
    expect(await ask(await ipOf(pod), 'read')).toBe('DEF');
  });

  it.each<[string, string, string | undefined, RegExp[]]>([
    [
      'is not there, or has moved with its projected volume',
      'second',
      undefined,
      [
        /data\/model.* is not in the pod's volume/,
        /serviceaccount\/\.\.first\/token.* is not in the pod's volume/,
      ],
    ],
    ['has another size', 'first', 'abcdefg', [/data\/model.* had 6 bytes and has 7/]],
  ])('starts cold where it %s', async (_, revision, content, reasons) => {
    const pod = await run({ image: held, ...withModel(revision, content) });
    expect(await restored(pod)).toBe(false);
    const said = await node.startOf(pod);
    for (const reason of reasons) expect(said).toMatch(reason);
    expect(await ask(await ipOf(pod), 'get')).toBe(fresh);
  });
});
