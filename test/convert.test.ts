/** `thaw convert`: from an archive of containerd's CRI to an image, to an archive that containerd restores, and to an image again. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Containerd as Client, createContainerd } from '../cli/containerd/index.ts';
import { containerConfig } from './lib/cri/index.ts';
import { assertNothingLeft, run, takeStock, until } from './lib/index.ts';
import { KubeletNode, type Pod } from './lib/kubelet-node.ts';

/** Keeps in memory what it is told once; changes and deletes files of its image. */
const SCRIPT =
  'rm /gone; echo new > /motd; token=none; while :; do [ -f /ask ] && { token=$(cat /ask); rm /ask; }; echo $token > /new; mv /new /token; sleep 0.1; done';
const COMMAND = ['sh', '-c', SCRIPT];
const SHM =
  'cd /dev/shm; mkdir -m 700 d; echo shared > d/ring; ln d/ring again; ln -s d/ring way; chown 7:8 d/ring';
const SHM_LOOK = 'cd /dev/shm; cat again way; stat -c "%n %u:%g %a %h" d d/ring';

/** containerd's own runtime finds CRIU in its path; Debian 13 has none that works with this kernel, thaw brings one. */
const PATH = process.env['PATH'];
let node: KubeletNode;
let client: Client;
let dir: string;
let cold: string;

beforeAll(async () => {
  dir = mkdtempSync('/tmp/convert-');
  process.env['PATH'] = `/opt/thaw/current/criu:${PATH}`;
  node = await KubeletNode.start();
  client = await createContainerd({ address: node.containerd.socket, namespace: 'k8s.io' });
  const entries = [
    { path: 'motd', content: 'old' },
    { path: 'gone', content: 'x' },
  ];
  cold = await node.pushImage('convert/server', entries, COMMAND);
});
afterAll(async () => {
  client?.close();
  await node?.stop();
  process.env['PATH'] = PATH;
  rmSync(dir, { recursive: true, force: true });
});

const tokenOf = (pod: Pod) => node.exec(pod, 'cat', '/token').catch(() => '');

/** Made by containerd of a pod under its own runtime, with what Podman and CRI-O put into theirs beside it. */
async function foreignArchive(): Promise<string> {
  const pod = await node.runPod({ image: cold, command: COMMAND, handler: 'runc' });
  try {
    await node.exec(pod, 'sh', '-c', SHM);
    await node.exec(pod, 'sh', '-c', 'echo secret > /a; mv /a /ask');
    await until('the token', async () => (await tokenOf(pod)) === 'secret\n');
    await node.cri.checkpointContainer(pod.containerId, `${dir}/foreign.tar`);
    const { spec } = await client.containers.get(pod.containerId);
    const { mounts } = JSON.parse(spec.toString()) as { mounts: { destination: string; source: string }[] };
    const shm = mounts.find(({ destination }) => destination === '/dev/shm')?.source ?? '';
    const content = `${dir}/content`;
    mkdirSync(`${content}/volumes`, { recursive: true });
    await run('tar', ['-C', shm, '-cf', `${content}/devshm-checkpoint.tar`, '.']);
    // As Podman does it of a named volume.
    writeFileSync(`${dir}/kept`, 'x');
    await run('tar', ['-C', dir, '-cf', `${content}/volumes/models.tar`, './kept']);
    await run('tar', ['-C', content, '-rf', `${dir}/foreign.tar`, '.']);
    rmSync(content, { recursive: true });
    return `${dir}/foreign.tar`;
  } finally {
    await node.removePod(pod);
  }
}

/** A container under thaw, saved by thaw; its images say that connections were closed. */
async function ownArchive(): Promise<string> {
  const pod = await node.runPod({ image: cold, command: COMMAND });
  try {
    await node.exec(pod, 'sh', '-c', 'echo secret > /a; mv /a /ask');
    await until('the token', async () => (await tokenOf(pod)) === 'secret\n');
    await node.thaw(['convert', await node.checkpoint(pod, 'convert/own'), '--archive', `${dir}/own.tar`]);
    return `${dir}/own.tar`;
  } finally {
    await node.removePod(pod);
  }
}

/** By containerd, as CreateContainer with the path of an archive does it; under its own runtime. */
async function restoredByContainerd(archive: string): Promise<string> {
  const { podId, name, uid, config } = await node.createSandbox({ handler: 'runc' });
  const pod = { podId, name, uid, containerId: '', logFile: '', again: () => Promise.reject() };
  try {
    mkdirSync(`${config.logDirectory}/main`, { recursive: true });
    const what = { name: 'main', image: archive, imageRef: archive, command: COMMAND };
    pod.containerId = await node.cri.createContainer(podId, containerConfig(config, what), config);
    await node.cri.startContainer(pod.containerId);
    const look = 'cat /token /motd; ls /gone 2>/dev/null || echo none; hostname';
    return await node.exec(pod, 'sh', '-c', look);
  } finally {
    await node.removePod(pod);
  }
}

/** By CRIU's tool for its images, and by the one for archives. */
async function readByOthers(archive: string): Promise<void> {
  const content = `${dir}/ours`;
  mkdirSync(content);
  await run('tar', ['-C', content, '-xf', archive]);
  const processes = await run('crit', ['x', `${content}/checkpoint`, 'ps']);
  expect(processes.stdout).toMatch(/^\s*1\s+1\s+1\s+sh$/m);
  // Bytes of memory and of files, and what runc has written, are none.
  const images = readdirSync(`${content}/checkpoint`).filter(
    (name) => !/^(pages-|tmpfs-|descriptors\.json$)/.test(name),
  );
  // As "crit decode" does, without a start of Python for each.
  const decode =
    'import sys, pycriu\nfor name in sys.argv[1:]: print(pycriu.images.load(open(name, "rb"))["magic"])';
  const paths = images.map((name) => `${content}/checkpoint/${name}`);
  const decoded = await run('python3', ['-c', decode, ...paths]);
  const magics = decoded.stdout.trim().split('\n');
  expect(magics).toHaveLength(images.length);
  expect(magics).toEqual(expect.arrayContaining(['INVENTORY', 'PSTREE', 'CORE', 'MM', 'PAGEMAP', 'FILES']));
  // Not a byte is another than in the archive that all came from.
  mkdirSync(`${dir}/theirs`);
  await run('tar', ['-C', `${dir}/theirs`, '-xf', `${dir}/foreign.tar`]);
  await run('diff', ['-r', `${dir}/theirs/checkpoint`, `${content}/checkpoint`]);
  for (const made of [content, `${dir}/theirs`]) rmSync(made, { recursive: true });

  // Command lines and memory it does not find: 1.3 knows no page maps of CRIU 4.2, whoever has made them.
  const what = ['--stats', '--mounts', '--ps-tree', '--files', '--sockets', '--metadata'];
  const shown = await run('checkpointctl', ['inspect', ...what, '--format', 'json', archive]);
  expect(JSON.parse(shown.stdout)).toMatchObject([
    {
      ...{ container_name: 'main', image: cold, runtime: 'runc', engine: 'containerd' },
      statistics: { pages_written: expect.any(Number) },
      process_tree: { pid: 1, command: 'sh' },
      mounts: expect.arrayContaining([{ destination: '/dev/shm', type: 'bind', source: '/dev/shm' }]),
    },
  ]);
}

// containerd 1.7 makes no archives, and reads none.
const inForky = it.skipIf(process.env['THAW_NODE'] !== 'forky');
inForky(
  'keeps memory, changed and deleted files on the way from containerd to an image, an archive, and an image',
  async () => {
    const foreign = await foreignArchive();
    const before = takeStock();
    const reference = (tag: string) => `${node.registry.host}/convert/server:${tag}`;
    const toImage = ['convert', foreign, '--image', reference('warm'), '--json'];
    const refused = await node.thaw(toImage, { allowFailure: true });
    expect(refused.stderr).toMatch(/holds what was in the volumes models, and an image never does/);
    const into = await node.thaw([...toImage, '--ignore-volumes']);
    expect(JSON.parse(into.stdout)).toMatchObject({ base: cold, verified: false });
    await node.thaw(['convert', reference('warm'), '--archive', `${dir}/ours.tar`]);
    const listed = (await run('tar', ['-tf', `${dir}/ours.tar`])).stdout.split('\n');
    for (const name of [
      'config.dump',
      'spec.dump',
      'status.dump',
      'rootfs-diff.tar',
      'deleted.files',
      'devshm-checkpoint.tar',
      'status',
      'checkpoint/pstree.img',
    ])
      expect(listed).toContain(name);
    const deleted = await run('tar', ['-xOf', `${dir}/ours.tar`, 'deleted.files']);
    expect(JSON.parse(deleted.stdout)).toEqual(['/gone']);
    await readByOthers(`${dir}/ours.tar`);
    for (const archive of [`${dir}/ours.tar`, await ownArchive()])
      expect(await restoredByContainerd(archive)).toMatch(/^secret\nnew\nnone\npod-\d+\n$/);
    await node.thaw(['convert', `${dir}/ours.tar`, '--image', reference('again')]);
    expect((await client.leases.list()).filter(({ id }) => id.startsWith('thaw-'))).toEqual([]);
    await assertNothingLeft(before, 10_000, [/^files: \/run\/mount$/]);

    const pod = await node.runPod({ image: reference('again'), command: COMMAND });
    try {
      expect(await until('the token', async () => (await tokenOf(pod)) || undefined)).toBe('secret\n');
      expect(await node.exec(pod, 'cat', '/motd')).toBe('new\n');
      expect(await node.exec(pod, 'sh', '-c', SHM_LOOK)).toBe(
        'shared\nshared\nd 0:0 700 2\nd/ring 7:8 644 2\n',
      );
      expect(await node.exec(pod, 'sh', '-c', 'ls /gone 2>/dev/null || echo none')).toBe('none\n');
    } finally {
      await node.removePod(pod);
    }
  },
);

describe('an archive that is none', () => {
  it.each([
    ['is not there', undefined, 'check that it exists and can be read'],
    ['is no tar', 'nothing of the kind'.repeat(100), 'it is no tar'],
  ])('%s', async (_, content, said) => {
    const path = `${dir}/broken.tar`;
    rmSync(path, { force: true });
    if (content !== undefined) writeFileSync(path, content);
    const target = `${node.registry.host}/convert/broken:1`;
    const done = await node.thaw(['convert', path, '--image', target], { allowFailure: true });
    expect(done.code, done.stderr).toBe(1);
    expect(done.stderr).toContain(said);
  });

  it('is there already and is not written over', async () => {
    const path = `${dir}/mine.tar`;
    writeFileSync(path, 'mine');
    const done = await node.thaw(['convert', cold, '--archive', path], { allowFailure: true });
    expect(done.stderr).toContain('it is there already');
    expect(readFileSync(path, 'utf8')).toBe('mine');
  });
});
