/** What a restored container is told of the pod that it is in, and that it is one as any other: saved again, stopped, restarted. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { assertNothingLeft, type Leftovers, privateDir, takeStock, until } from './lib/index.ts';
import { KubeletNode, type Pod, type PodRequest } from './lib/kubelet-node.ts';

/**
 * Says what it was told, and with which signal; ends with the status that it is told. /bin/sh of busybox runs a trap when
 * its sleep has ended.
 */
const SERVER = `
trap 'echo got USR1' USR1
trap 'echo got TERM; [ -e /tmp/stubborn ] || exit 9' TERM
echo started
told=none
while :; do
  if [ -f /run/thaw/restore.json ]; then now=$(head -n 3 /run/thaw/restore.json | tail -n 1); else now=none; fi
  [ "$now" = "$told" ] || echo "told $now"
  told=$now
  if [ -f /tmp/end ]; then exit "$(cat /tmp/end)"; fi
  sleep 0.1
done`;
const RESUME = 'echo "resumed $(id -u) $COLOUR $(head -c 1 /run/thaw/restore.json)"';
const command = ['/bin/sh', '/server.sh'];
const REPOSITORY = 'test/identity';
const told = '/run/thaw/restore.json';
/** RFC 8878, 3.1.1. */
const ZSTD = 0xfd2fb528;

let node: KubeletNode;
let stock: Leftovers;
let control: string;
let cold: string;
let warm: string;
const pods: Pod[] = [];

interface Told {
  id: string;
  seed: string;
}

async function run(image: string, request: Partial<PodRequest> = {}): Promise<Pod> {
  const mounts = [{ containerPath: '/control', hostPath: control }];
  const env = { COLOUR: 'blue', SNAPSHOT_CONTROL_DIR: '/control' };
  const pod = await node.runPod({ image, command, mounts, env, ...request });
  pods.push(pod);
  return pod;
}

async function toldOf(pod: Pod): Promise<Told> {
  return JSON.parse(await node.exec(pod, 'cat', told)) as Told;
}

const logOf = ({ logFile }: Pod) => readFileSync(logFile, 'utf8');
const says = (pod: Pod, line: string) =>
  until(`"${line}"`, () =>
    logOf(pod)
      .split('\n')
      .some((text) => text.endsWith(` F ${line}`)),
  );

async function exitOf(pod: Pod): Promise<number> {
  return until('the container to end', async () => {
    const { state, exitCode } = await node.cri.containerStatus(pod.containerId);
    return state === 'CONTAINER_EXITED' && { exitCode };
  }).then(({ exitCode }) => exitCode);
}

beforeAll(async () => {
  node = await KubeletNode.start();
  control = privateDir('control');
  const entries = [
    { path: 'server.sh', content: SERVER },
    { path: 'resume.sh', content: RESUME },
  ];
  cold = await node.pushImage(REPOSITORY, entries, command);
});
afterAll(async () => {
  await node.stop();
  rmSync(control, { recursive: true, force: true });
});
beforeEach(() => {
  stock = takeStock();
});
afterEach(async () => {
  for (const pod of pods.splice(0)) await node.removePod(pod);
  for (const name of readdirSync(control)) rmSync(join(control, name));
  await assertNothingLeft(stock);
});

it('a workload of Dynamo is saved when it says so, and told that it was', async () => {
  const annotations = {
    'thaw.dev/restored-signal': 'USR1',
    'thaw.dev/restored-exec': '["/bin/sh", "/resume.sh"]',
  };
  const pod = await run(cold, { annotations });
  await says(pod, 'started');
  expect(await node.exec(pod, 'sh', '-c', `test -e ${told} || echo none`)).toBe('none\n');
  await expect(node.checkpoint(pod, REPOSITORY)).rejects.toThrow(
    /has not written "\/control\/ready-for-snapshot"/,
  );
  writeFileSync(join(control, 'ready-for-snapshot'), '');
  warm = await node.checkpoint(pod, REPOSITORY);
  expect(readdirSync(control).sort()).toEqual(['ready-for-snapshot', 'snapshot-complete']);
  expect(await node.exec(pod, 'sh', '-c', `test -e ${told} || echo none`)).toBe('none\n');
});

it('a restored container is told who it is, by file, signal and command', async () => {
  writeFileSync(join(control, 'restore-complete'), 'of the container before');
  const pod = await run(warm);
  const { network } = await node.cri.podSandboxStatus(pod.podId);
  const file = await toldOf(pod);
  expect(file).toMatchObject({
    version: 1,
    pod: { name: pod.name, namespace: 'default', uid: pod.uid },
    container: { name: 'main', id: pod.containerId },
    hostname: pod.name,
    addresses: expect.arrayContaining([network.ip]),
    env: { COLOUR: 'blue', HOSTNAME: pod.name },
    seed: expect.stringMatching(/^[0-9a-f]{64}$/),
    checkpoint: { id: expect.stringMatching(/^sha256:/), image: cold },
  });
  await says(pod, `told   "id": "${file.id}",`);
  await says(pod, 'got USR1');
  await says(pod, 'resumed 0 blue {');
  expect(logOf(pod)).not.toContain('started');
  expect(readdirSync(control).sort()).toEqual(['restore-complete', 'restore-context.json']);
  expect(readFileSync(join(control, 'restore-complete'), 'utf8')).toBe('');
  const context = JSON.parse(readFileSync(join(control, 'restore-context.json'), 'utf8')) as object;
  expect(context).toMatchObject({ env: { HOSTNAME: pod.name } });
  // Another replica is somebody else.
  const other = await toldOf(await run(warm));
  expect(other.id).not.toBe(file.id);
  expect(other.seed).not.toBe(file.seed);
});

it('a pod whose command after the restore fails starts cold', async () => {
  const annotations = { 'thaw.dev/restored-exec': '["/bin/sh", "-c", "exit 3"]' };
  const pod = await run(warm, { annotations });
  await says(pod, 'started');
  expect(await node.startOf(pod)).toMatch(/command after the restore failed: .*exit status 3.*starting cold/);
  expect(await node.exec(pod, 'sh', '-c', `test -e ${told} || echo none`)).toBe('none\n');
});

it('a restored container is saved and restored again: it is told anew, and its image has nothing of the first time', async () => {
  const first = await run(warm);
  const { id } = await toldOf(first);
  writeFileSync(join(control, 'ready-for-snapshot'), '');
  await node.exec(first, 'touch', '/left-by-first');
  const again = await node.checkpoint(first, REPOSITORY, 'again');
  // It goes on as it was.
  expect((await toldOf(first)).id).toBe(id);
  const second = await run(again);
  const { id: secondId } = await toldOf(second);
  expect(secondId).not.toBe(id);
  await says(second, `told   "id": "${secondId}",`);
  const [before, after] = await Promise.all([layersOf('warm'), layersOf('again')]);
  expect(after.length - before.length).toBeLessThanOrEqual(1);
  const diff = await namesIn(after.at(-1) ?? '');
  expect(diff).toContain('left-by-first');
  expect(diff).not.toContain('run/thaw/restore.json');
});

it('stops, ends and is restarted as any other container', async () => {
  const pod = await run(warm);
  await toldOf(pod);
  await node.cri.stopContainer(pod.containerId, 20);
  await says(pod, 'got TERM');
  expect(await exitOf(pod)).toBe(9);

  // As a kubelet restarts a container whose liveness probe fails.
  const second = await pod.again();
  await node.cri.startContainer(second.containerId);
  expect(await node.startOf(second)).toContain('"restored"');
  expect((await toldOf(second)).id).not.toBe('');
  await node.exec(second, 'touch', '/tmp/stubborn');
  await node.cri.stopContainer(second.containerId, 1);
  await says(second, 'got TERM');
  expect(await exitOf(second)).toBe(137);

  const third = await second.again();
  await node.cri.startContainer(third.containerId);
  await node.exec(third, 'sh', '-c', 'echo 5 > /tmp/end');
  expect(await exitOf(third)).toBe(5);
  expect(logOf(third)).not.toContain('started');
});

it('a container with a read-only root is told too', async () => {
  const tmp = privateDir('tmp');
  const mounts = [{ containerPath: '/tmp', hostPath: tmp }];
  const request = { mounts, env: {}, readonlyRootfs: true };
  try {
    const pod = await run(cold, request);
    await says(pod, 'started');
    const image = await node.checkpoint(pod, REPOSITORY, 'read-only');
    const restored = await run(image, request);
    expect(await node.exec(restored, 'sh', '-c', 'touch /x 2>&1 || true')).toContain('Read-only');
    const { id } = await toldOf(restored);
    await says(restored, `told   "id": "${id}",`);
  } finally {
    for (const pod of pods.splice(0)) await node.removePod(pod);
    rmSync(tmp, { recursive: true });
  }
});

async function layersOf(tag: string): Promise<string[]> {
  const manifest = await fetch(`http://${node.registry.host}/v2/${REPOSITORY}/manifests/${tag}`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  const { layers } = (await manifest.json()) as { layers: { digest: string }[] };
  return layers.map(({ digest }) => digest);
}

/** Paths in a layer of the registry. */
async function namesIn(digest: string): Promise<string[]> {
  const blob = await fetch(`http://${node.registry.host}/v2/${REPOSITORY}/blobs/${digest}`);
  const input = Buffer.from(await blob.arrayBuffer());
  // Of containerd 2, and of 1.7.
  const tar = input.readUInt32LE(0) === ZSTD ? zstdDecompressSync(input) : gunzipSync(input);
  return execFileSync('tar', ['-t'], { input: tar, encoding: 'utf8' }).split('\n');
}
