/** `snapshotter = "thaw"` for every image of a node, as deploy/containerd/whole-node-*.toml has it. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Containerd as Client, createContainerd } from '../cli/containerd/index.ts';
import type { Finding } from '../cli/doctor/finding.ts';
import { factsLayer, forge } from './lib/forge.ts';
import { busybox, containerdVersion, image, layer, until } from './lib/index.ts';
import { KubeletNode, type KubeletNodeOptions, type Pod } from './lib/kubelet-node.ts';

const command = ['/bin/sh', '-c', 'echo up; while :; do sleep 0.1; done'];
/** A pod that does not know of thaw. */
const ordinary = { command, handler: 'runc' };

async function withNode(
  options: KubeletNodeOptions,
  use: (node: KubeletNode) => Promise<void>,
): Promise<void> {
  const node = await KubeletNode.start({ dropIn: 'whole-node', ...options });
  try {
    await use(node);
  } finally {
    await node.stop();
  }
}

async function withClient(node: KubeletNode, use: (client: Client) => Promise<void>): Promise<void> {
  const client = await createContainerd({ address: node.containerd.socket, namespace: 'k8s.io' });
  try {
    await use(client);
  } finally {
    client.close();
  }
}

async function names(node: KubeletNode, snapshotter: string): Promise<string[]> {
  const ls = ['-n', 'k8s.io', 'snapshots', '--snapshotter', snapshotter, 'ls'];
  const { stdout } = await node.containerd.ctr(ls);
  return stdout
    .split('\n')
    .slice(1)
    .filter((line) => line !== '')
    .map((line) => line.split(/\s+/)[0] ?? '');
}

function directories({ root }: KubeletNode): number {
  return readdirSync(`${root}/snapshots`).length;
}

async function wrong(node: KubeletNode): Promise<Finding[]> {
  const files = ['--config', node.config, '--containerd-config', node.containerd.config];
  const done = await node.thaw(['doctor', '--json', ...files], { allowFailure: true });
  const { findings } = JSON.parse(done.stdout) as { findings: Finding[] };
  return findings.filter(({ check, status }) => status !== 'ok' && check !== 'disk space');
}

describe('a node whose images are all on thaw', () => {
  it('pulls, runs, commits, restarts and collects garbage as on overlayfs', () =>
    withNode({}, async (node) => {
      expect(await wrong(node)).toEqual([]);
      const reference = await node.pushImage('test/ordinary', [{ path: 'hello', content: 'hi' }], command);
      const pod = await node.runPod({ image: reference, ...ordinary });
      expect(await node.exec(pod, 'cat', '/hello')).toBe('hi');
      expect(await names(node, 'thaw')).toContain(pod.containerId);
      expect(await names(node, 'overlayfs')).not.toContain(pod.containerId);

      // What "nerdctl commit" does.
      await node.exec(pod, 'sh', '-c', 'echo more > /added; rm /hello');
      await withClient(node, async (client) => {
        const snapshots = client.snapshots('thaw');
        const { parent } = await snapshots.stat(pod.containerId);
        const below = await snapshots.view('below', parent);
        try {
          const mediaType = 'application/vnd.oci.image.layer.v1.tar';
          const made = await client.diff(below, await snapshots.mounts(pod.containerId), mediaType);
          const bytes = (await client.content.readAll(made.digest, 1 << 20)).toString('latin1');
          expect(bytes).toContain('added');
          expect(bytes).toContain('.wh.hello');
        } finally {
          await snapshots.remove('below');
        }
      });
      const { ctr } = node.containerd;
      const snapshot = (...args: string[]) =>
        ctr.call(node.containerd, ['-n', 'k8s.io', 'snapshots', '--snapshotter', 'thaw', ...args]);
      await snapshot('prepare', 'work', await parentOf(node, pod.containerId));
      await snapshot('commit', 'derived', 'work');
      await snapshot('prepare', 'again', 'derived');
      for (const name of ['again', 'derived']) await snapshot('rm', name);

      // The running container is not disturbed, and new ones start on what is here.
      await node.killSnapshotter();
      await node.startSnapshotter();
      await node.containerd.restart();
      await node.containerd.reachSnapshotter();
      expect(await node.exec(pod, 'cat', '/added')).toBe('more\n');
      await node.registry.halt();
      const second = await node.runPod({ image: reference, ...ordinary });
      expect(await node.exec(second, 'cat', '/hello')).toBe('hi');
      await node.registry.restart();

      for (const each of [pod, second]) await node.removePod(each);
      const before = (await names(node, 'thaw')).length;
      await node.cri.removeImage(reference);
      await until('its layers to go', async () => (await names(node, 'thaw')).length === before - 2);
      await until('no directory to be left without a snapshot', async () => {
        return directories(node) === (await names(node, 'thaw')).length;
      });
    }));

  it('runs images that came here before it used thaw, and restores checkpoints', () =>
    withNode({}, async (node) => {
      const old = image([await layer(busybox())], { cmd: command });
      await node.containerd.importImage('test.local/old:1', old, { namespace: 'k8s.io' });
      await until('CRI to know the image', () => node.cri.imageStatus('test.local/old:1'));
      const pod = await node.runPod({ image: 'test.local/old:1', ...ordinary });
      expect(await node.exec(pod, 'echo', 'here')).toBe('here\n');
      expect(await names(node, 'thaw')).toContain(pod.containerId);
      await node.removePod(pod);

      const cold = await node.pushImage('test/whole', [], command);
      const source = await node.runPod({ image: cold, command });
      const warm = await node.checkpoint(source, 'test/whole');
      await node.removePod(source);
      await node.forget(warm);
      const restored = await node.runPod({ image: warm, command });
      expect(await node.startOf(restored)).toContain('"restored"');
      const ranges = (await node.registry.settled()).filter(({ status }) => status === 206);
      expect(ranges.length).toBeGreaterThan(0);
      await node.removePod(restored);
      // Through the transfer service, where containerd has one.
      const pull = ['-n', 'k8s.io', 'images', 'pull', '--plain-http', '--snapshotter', 'thaw', cold];
      await node.containerd.ctr(pull);
      await node.forget(cold);
    }));

  it('flushes nothing of a container with overlay.volatile, saves it, and starts it cold where a restore failed', () =>
    withNode({ config: { overlay: { volatile: true } } }, async (node) => {
      // Without the rootfs diff, which has that file, CRIU must fail.
      const script = 'echo kept > /kept; exec 7< /kept; while :; do sleep 0.1; done';
      const server = ['/bin/sh', '-c', script];
      const isVolatile = async (pod: Pod) =>
        expect(await node.exec(pod, 'cat', '/proc/self/mounts')).toMatch(
          /^overlay \/ overlay \S*[,=]volatile/m,
        );
      const cold = await node.pushImage('test/volatile', [], server);
      const source = await node.runPod({ image: cold, command: server });
      await isVolatile(source);
      await until('the file', () => node.exec(source, 'cat', '/kept').catch(() => ''));
      const warm = await node.checkpoint(source, 'test/volatile');
      await node.removePod(source);
      const broken = await forge(node.registry.host, 'test/volatile', ['warm', 'no-diff'], async (parts) => {
        const empty = await layer([{ path: 'nothing', content: '' }]);
        parts.diff = { layer: empty, diffId: empty.digest };
        parts.facts.layers.diff = factsLayer(empty);
      });
      const failed = await node.runPod({ image: broken, command: server });
      expect(await node.startOf(failed)).toMatch(/restore failed, starting cold/);
      await isVolatile(failed);
      const restored = await node.runPod({ image: warm, command: server });
      expect(await node.startOf(restored)).toContain('"restored"');
      await isVolatile(restored);
      for (const pod of [failed, restored]) await node.removePod(pod);
    }));

  it('is made by the drop-in of version 2 where the main file is, and one of version 3 is named there', async ({
    skip,
  }) => {
    // containerd 1.7 replaces sections by imported ones.
    if ((await containerdVersion()) === '1.7') skip();
    await withNode({ updated: true }, async (node) => {
      expect(await wrong(node)).toEqual([]);
      const reference = await node.pushImage('test/updated', [], command);
      const pod = await node.runPod({ image: reference, ...ordinary });
      expect(await names(node, 'thaw')).toContain(pod.containerId);
      await node.removePod(pod);
      const file = `${node.containerd.dir}/version-3.toml`;
      writeFileSync(file, readFileSync(join(import.meta.dirname, '../deploy/containerd/whole-node-2.toml')));
      const main = readFileSync(node.containerd.config, 'utf8');
      writeFileSync(node.containerd.config, main.replace(`${node.containerd.dir}/thaw.toml`, file));
      expect((await wrong(node)).map(({ found }) => found)).toEqual(
        expect.arrayContaining([expect.stringContaining('ignores CRI settings of version 2')]),
      );
    });
  });
});

async function parentOf(node: KubeletNode, key: string): Promise<string> {
  let parent = '';
  await withClient(node, async (client) => {
    parent = (await client.snapshots('thaw').stat(key)).parent;
  });
  return parent;
}
