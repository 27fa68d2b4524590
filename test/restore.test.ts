/** The main job: a container saved with `thaw checkpoint` starts again from the registry, in another pod, warm or cold. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { lowestFilters } from '../checkpoint/criu/seccomp-image.ts';
import { runFilter } from '../shim/restore/seccomp/bpf.test-helper.ts';
import { compileProfile } from '../shim/restore/seccomp/compile.ts';
import { readProfile, SCMP_ARCH } from '../shim/restore/seccomp/profile.ts';
import type { OciSpec } from '../shim/task/oci-spec.ts';
import { assertNothingLeft, type Leftovers, takeStock, until } from './lib/index.ts';
import { KubeletNode, type Pod } from './lib/kubelet-node.ts';

/**
 * Counts, and keeps a token that it was given once in a shell variable alone: a process that started anew could know
 * neither. /ready is part of the rootfs diff and must not be seen after a cold start.
 */
const server = `
token=none; n=0
echo started
while :; do
  if [ -f /tmp/token ]; then token=$(cat /tmp/token); rm /tmp/token; echo ready > /ready; fi
  n=$((n+1)); echo "$token $n $$" > /tmp/state.new; mv /tmp/state.new /tmp/state
  sleep 0.1
done`;
const command = ['/bin/sh', '/server.sh'];

let node: KubeletNode;
let stock: Leftovers;
const pods: Pod[] = [];

interface State {
  token: string;
  count: number;
  pid: number;
}

async function stateOf(pod: Pod): Promise<State> {
  const text = await until('the server to write its state', () =>
    node.exec(pod, 'cat', '/tmp/state').catch(() => undefined),
  );
  const [token = '', count, pid] = text.trim().split(' ');
  return { token, count: Number(count), pid: Number(pid) };
}

async function run(image: string, request: Partial<Parameters<KubeletNode['runPod']>[0]> = {}): Promise<Pod> {
  const pod = await node.runPod({ image, command, ...request });
  pods.push(pod);
  return pod;
}

async function withToken(pod: Pod, token: string): Promise<State> {
  await node.exec(pod, 'sh', '-c', `echo ${token} > /tmp/token`);
  return until('the token to be taken', async () => {
    const state = await stateOf(pod);
    return state.token === token && state;
  });
}

async function removePods(): Promise<void> {
  for (const pod of pods.splice(0)) await node.removePod(pod);
}

beforeAll(async () => {
  node = await KubeletNode.start();
});
afterAll(() => node.stop());
beforeEach(() => {
  stock = takeStock();
});
afterEach(async () => {
  await removePods();
  await assertNothingLeft(stock);
});

describe('a checkpoint in a registry', () => {
  let cold: string;
  let warm: string;
  let saved: State;

  beforeAll(async () => {
    cold = await node.pushImage('test/server', [{ path: 'server.sh', content: server }], command);
    const pod = await run(cold);
    saved = await withToken(pod, 'secret');
    warm = await node.checkpoint(pod, 'test/server');
    // The container went on.
    expect((await stateOf(pod)).count).toBeGreaterThanOrEqual(saved.count);
    await removePods();
    await node.forget(warm);
    await node.forget(cold);
  });

  it('is restored in another pod, as PID 1, with its memory and its files, from ranges of the registry', async () => {
    const before = node.registry.requests().length;
    const pod = await run(warm);
    const state = await stateOf(pod);
    expect(state.token).toBe('secret');
    expect(state.count).toBeGreaterThanOrEqual(saved.count);
    expect(state.pid).toBe(1);
    expect(await node.exec(pod, 'cat', '/ready')).toBe('ready\n');
    expect(await node.startOf(pod)).toContain('"restored"');
    const ranges = (await node.registry.settled()).slice(before).filter(({ status }) => status === 206);
    expect(ranges.length).toBeGreaterThan(0);
  });

  it('goes on in the new pod: name, logs, exec, exit code', async () => {
    const pod = await run(warm);
    await stateOf(pod);
    expect(await node.exec(pod, 'hostname')).toBe(`${pod.name}\n`);
    expect(await node.exec(pod, 'ls', '/.thaw').catch((error: Error) => error.message)).toMatch(
      /No such file/,
    );
    const { state } = await node.cri.containerStatus(pod.containerId);
    expect(state).toBe('CONTAINER_RUNNING');
    await node.exec(pod, 'sh', '-c', 'kill -9 -1; true').catch(() => {});
    await node.cri.stopContainer(pod.containerId, 0);
    expect((await node.cri.containerStatus(pod.containerId)).exitCode).toBe(137);
  });

  it('is restored in two pods at once, from one download', async () => {
    const both = await Promise.all([run(warm), run(warm)]);
    for (const pod of both) expect((await stateOf(pod)).token).toBe('secret');
    expect(await node.exec(both[0] as Pod, 'hostname')).not.toBe(await node.exec(both[1] as Pod, 'hostname'));
  });

  it.each([
    ['another argument', { command: [...command, 'extra'] }, /command line was/],
    ['another variable', { env: { MODE: 'x' } }, /environment variable MODE is new/],
    ['the annotation off', { annotations: { 'thaw.dev/restore': 'off' } }, /thaw.dev\/restore is .*off/],
    [
      'an annotation for this container alone',
      { annotations: { 'thaw.dev/restore.sidecar': 'off', 'thaw.dev/restore.main': 'off' } },
      /thaw.dev\/restore is .*off/,
    ],
  ])('starts cold on the base image with %s, and the log says why', async (_, request, reason) => {
    const pod = await run(warm, request);
    const state = await stateOf(pod);
    expect(state.token).toBe('none');
    expect(await node.exec(pod, 'ls', '/').then((text) => text.split('\n'))).not.toContain('ready');
    expect(await node.startOf(pod)).toMatch(reason);
    const why = await node.why(`default/${pod.name}`);
    expect(why).toEqual({ outcome: 'StartedCold', reasons: [expect.stringMatching(reason)] });
  });

  it('says every reason at once, by name, uid and container, also to people', async () => {
    const pod = await run(warm, { command: [...command, 'x'], env: { MODE: 'x', OTHER: 'y' } });
    for (const name of [pod.name, pod.uid, pod.containerId.slice(0, 12)])
      expect(await node.why(name)).toEqual({
        outcome: 'StartedCold',
        reasons: [
          expect.stringMatching(/^command line was/),
          'environment variable MODE is new',
          'environment variable OTHER is new',
        ],
      });
    const { stdout } = await node.thaw(['why', pod.name]);
    expect(stdout).toMatch(
      new RegExp(`default/${pod.name} +main +${pod.containerId.slice(0, 12)} +StartedCold`),
    );
    expect(stdout).toMatch(/^ {4}environment variable MODE is new$/m);
  });

  it('is restored all the same where the pod accepts what differs', async () => {
    const annotations = { 'thaw.dev/restore-except': 'args, env:MO*' };
    const pod = await run(warm, { command: [...command, 'extra'], env: { MODE: 'x' }, annotations });
    expect((await stateOf(pod)).token).toBe('secret');
    expect(await node.why(pod.name)).toEqual({ outcome: 'Restored', reasons: [] });
  });

  it('is an error instead of a cold start where the pod requires a restore', async () => {
    const pod = await node.createPod({
      image: warm,
      command: [...command, 'extra'],
      annotations: { 'thaw.dev/restore': 'require' },
    });
    pods.push(pod);
    await expect(node.cri.startContainer(pod.containerId)).rejects.toThrow(/require.*command line was/);
    const why = await node.why(pod.name);
    expect(why).toEqual({ outcome: 'RestoreRefused', reasons: [expect.stringMatching(/^command line was/)] });
  });
});

it('a server with open connections is saved: they are closed in the new pod, and it answers at the new address', async () => {
  const echo = '#!/bin/sh\nwhile read line; do echo "$line from $PPID"; done\n';
  const command = ['/bin/sh', '-c', 'nc -ll -p 9000 -e /echo.sh & wait'];
  const image = await node.pushImage(
    'test/listener',
    [{ path: 'echo.sh', mode: 0o755, content: echo }],
    command,
  );
  const pod = await run(image, { command });
  const old = await connected(await ipOf(pod));
  try {
    expect(await ask(old, 'one')).toMatch(/^one from \d+/);
    const warm = await node.checkpoint(pod, 'test/listener');
    // The connection of the source goes on.
    expect(await ask(old, 'two')).toMatch(/^two from \d+/);
    await removePods();
    const restored = await run(warm, { command });
    expect(await node.startOf(restored)).toContain('"restored"');
    const fresh = await connected(await ipOf(restored));
    expect(await ask(fresh, 'three')).toMatch(/^three from \d+/);
    fresh.destroy();
  } finally {
    old.destroy();
  }
});

it('a container under the default seccomp profile is restored under it, time and again', async () => {
  const request = { seccomp: 'RuntimeDefault' as const };
  const image = await node.pushImage('test/seccomp', [{ path: 'server.sh', content: server }], command);
  let pod = await run(image, request);
  await withToken(pod, 'filtered');
  for (const tag of ['once', 'twice']) {
    const warm = await node.checkpoint(pod, 'test/seccomp', tag);
    await removePods();
    pod = await run(warm, request);
    expect((await stateOf(pod)).token).toBe('filtered');
    const status = await node.exec(pod, 'cat', '/proc/1/status');
    expect(status).toMatch(/^Seccomp:\s2$/m);
    // The one that it was started with, and the pod's own below it, once.
    expect(status).toMatch(/^Seccomp_filters:\s2$/m);
  }
  const { Spec } = JSON.parse(
    (await node.containerd.ctr(['-n', 'k8s.io', 'containers', 'info', pod.containerId])).stdout,
  ) as { Spec: OciSpec };
  expect(
    differences(compileProfile(readProfile(Spec.linux?.seccomp), SCMP_ARCH.x86_64), runcFilter()),
  ).toEqual([]);
});

/** What runc had libseccomp make of the profile, out of a dump. */
function runcFilter(): Buffer {
  const images = readdirSync(join(node.root, 'cache'))
    .map((id) => join(node.root, 'cache', id, 'files/seccomp.img'))
    .filter((file) => existsSync(file));
  const filters = images.flatMap((file) => lowestFilters(readFileSync(file)));
  // Of the second checkpoint the lowest one is ours, and shorter.
  return Buffer.from(filters.toSorted((a, b) => b.length - a.length)[0] ?? []);
}

/** Calls that the two answer differently: all that there are, with arguments that profiles look at. */
function differences(ours: Buffer, theirs: Buffer): string[] {
  const values = [0n, 1n, 8n, 40n, 0x20008n, 0x1000_0000n, 0x7e02_0000n, 0xffff_ffffn];
  const found: string[] = [];
  for (const arch of [0xc000_003e, 0x4000_0003])
    for (let number = 0; number < 470; number += 1)
      for (const first of values) {
        const [a, b] = [ours, theirs].map((filter) => runFilter(filter, { arch, number, args: [first] }));
        if (a !== b) found.push(`${arch.toString(16)} ${number} ${first}: ${a} ${b}`);
      }
  return found;
}

async function ipOf(pod: Pod): Promise<string> {
  const { network } = await node.cri.podSandboxStatus(pod.podId);
  return network?.ip ?? '';
}

function connected(host: string): Promise<Socket> {
  return until('the listener', () => {
    const socket = connect({ host, port: 9000 });
    return new Promise<Socket | undefined>((resolve) => {
      socket.once('connect', () => resolve(socket));
      socket.once('error', () => resolve(undefined));
    });
  });
}

async function ask(socket: Socket, question: string): Promise<string> {
  const answer = new Promise<string>((resolve, reject) => {
    socket.once('data', (bytes) => resolve(bytes.toString()));
    socket.once('close', () => reject(new Error('the connection was closed')));
    setTimeout(() => reject(new Error(`no answer to ${question}`)), 10_000).unref();
  });
  socket.write(`${question}\n`);
  return answer;
}
