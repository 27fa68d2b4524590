/** `thaw` with containers that it can save, images that it can fetch, and a node that restores them. */
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { COUNTER, type CounterNode, scratch, useCounterNode } from './lib/counter-node.ts';
import { busybox, image, layer, push, run, until } from './lib/index.ts';
import { proxyTo } from './lib/intercepted-registry.ts';
import { KubeletNode, type Pod } from './lib/kubelet-node.ts';

let plain: CounterNode;
useCounterNode((given) => {
  plain = given;
});

interface Saved {
  image: string;
  digest: string;
  steps: { label: string; ms: number }[];
}

describe('a warm container', () => {
  it('is saved while it runs, can be looked into and checked, and goes on', async () => {
    await plain.startContainer('warm');
    const reference = `${plain.registry.host}/team/warm:1`;
    const done = await plain.succeed('checkpoint', 'war', '--image', reference, '--json');
    expect(done.stderr).toContain('Dumping the processes');
    const saved = JSON.parse(done.stdout) as Saved;
    expect(saved.image).toBe(reference);
    await plain.expectUntouched('warm');

    const shown = JSON.parse((await plain.succeed('inspect', reference, '--json')).stdout);
    expect(shown.digest).toBe(saved.digest);
    expect(shown.layers.map(({ kind }: { kind: string }) => kind)).toEqual([
      'index',
      'data',
      'base',
      'base',
      'diff',
    ]);
    expect(shown.facts.processes[0]).toMatchObject({ pid: 1, comm: 'sh' });
    expect(shown.facts.launch.args).toEqual(['sh', '-c', COUNTER]);
    const text = await plain.succeed('inspect', reference, '--verify');
    expect(text.stdout).toContain('1 sh (1 thread)');
    const sent = plain.registry
      .requests()
      .filter(({ method, uri }) => method === 'PUT' && uri.includes('team/warm/blobs'));
    // Index, data, diff and config; base layers are mounted from where they were pulled.
    expect(sent.length).toBe(4);
  });

  it('can be looked into where its image was unpacked', async () => {
    await plain.startContainer('warm');
    const reference = `${plain.registry.host}/team/files:1`;
    await plain.succeed('checkpoint', 'warm', '--image', reference);
    const { layers } = JSON.parse((await plain.succeed('inspect', reference, '--json')).stdout);
    const dir = mkdtempSync('/tmp/unpacked-');
    for (const { kind, digest } of layers as { kind: string; digest: string }[]) {
      if (kind !== 'index' && kind !== 'data') continue;
      const blob = await fetch(`http://${plain.registry.host}/v2/team/files/blobs/${digest}`);
      await run('tar', ['-x', '-C', dir], { input: new Uint8Array(await blob.arrayBuffer()) });
    }
    await plain.succeed('inspect', '--file', dir, '--verify');
    const chunks = openSync(`${dir}/.thaw/chunks-000000`, 'r+');
    writeSync(chunks, Buffer.alloc(16, 0xee), 0, 16, 4096);
    closeSync(chunks);
    await plain.succeed('inspect', '--file', dir);
    const damaged = await plain.thaw('inspect', '--file', dir, '--verify');
    expect(damaged).toMatchObject({ code: 1, stdout: '' });
    expect(damaged.stderr).toContain('its bytes do not have the digest they should have (file "');
    rmSync(dir, { recursive: true });
  });

  it('ends with --stop, once it is saved', async () => {
    await plain.startContainer('warm');
    await plain.succeed('checkpoint', 'warm', '--image', `${plain.registry.host}/team/stop:1`, '--stop');
    expect(await plain.client.tasks.get('warm')).toMatchObject({ status: 'STOPPED', exitStatus: 137 });
    await plain.expectClean();
  });

  it.each([
    ['interrupted', 'SIGINT', 130],
    ['killed', 'SIGKILL', null],
  ] as const)('goes on when the command is %s', async (_, signal, status) => {
    await plain.startContainer('warm');
    let hang: (() => void) | undefined;
    const hanging = new Promise<void>((resolve) => {
      hang = resolve;
    });
    const proxy = await proxyTo(plain.registry.host, (request) => {
      if (request.method !== 'PUT') return false;
      hang?.();
      return true;
    });
    const child = spawn('thaw', [
      ...['--address', plain.containerd.socket, '--namespace', 'default'],
      // The base layers are there already. With --stop the container stands still until all is pushed.
      ...['checkpoint', 'warm', '--image', `${proxy.host}/base/counter:int`, '--stop'],
    ]);
    let said = '';
    child.stderr.on('data', (text: Buffer) => {
      said += text;
    });
    const ended = new Promise<number | null>((resolve) => void child.once('exit', resolve));
    await Promise.race([
      hanging,
      ended.then((code) => Promise.reject(new Error(`It ended with ${code} before: ${said}`))),
    ]);
    expect((await plain.client.tasks.get('warm')).status).toBe('PAUSED');
    child.kill(signal);
    expect(await ended).toBe(status);
    await proxy.close();
    await until(
      'the container to go on',
      async () => (await plain.client.tasks.get('warm')).status === 'RUNNING',
    );
    await until('the dump to be removed', () => scratch().length === 0);
    // A killed command cannot give its lease back; that expires, and what it holds with it.
    for (const { id } of await plain.client.leases.list())
      if (status === null) await plain.client.leases.remove(id, { sync: true });
    await plain.expectUntouched('warm');
  });
});

describe('thaw fetch', () => {
  it('adds an image that containerd does not know, completes one that lacks blobs, and export works', async () => {
    const content = await layer([{ path: 'big', content: Buffer.alloc(3_000_000, 7) }]);
    const reference = await push(
      plain.registry.host,
      'team/fetch',
      '1',
      image([await layer(busybox()), content]),
    );
    const first = await plain.succeed('fetch', reference, '--json');
    expect(JSON.parse(first.stdout)).toMatchObject({ image: reference });
    await plain.client.content.remove(content.digest);
    expect(
      (await plain.containerd.ctr(['images', 'export', '/dev/null', reference], { allowFailure: true })).code,
    ).not.toBe(0);
    const again = await plain.succeed('fetch', reference, '--json');
    expect(JSON.parse(again.stdout)).toMatchObject({ fetchedBytes: content.bytes.length });
    await plain.containerd.ctr(['images', 'export', '/dev/null', reference]);
    // A collection must not take what was fetched.
    await plain.client.leases.remove(
      (await plain.client.leases.create({ lifetimeMs: 60_000, name: 'gc' })).id,
      {
        sync: true,
      },
    );
    expect(await plain.client.content.find(content.digest)).toBeDefined();
    await plain.client.images.remove(reference, { sync: true });
    await plain.expectClean();
  });

  it('says what is wrong with an image that is not there', async () => {
    const done = await plain.thaw('fetch', `${plain.registry.host}/team/none:1`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('answered 404 for team/none');
    await plain.expectClean();
  });
});

describe('on a node with thaw-snapshotter', () => {
  /** Makes /gen1 only when it is not told otherwise, and counts in memory. */
  const server =
    '[ -n "$1" ] || echo one > /gen1; n=0; while :; do n=$((n+1)); echo $n > /new; mv /new /state; sleep 0.05; done';
  const command = ['/bin/sh', '/server.sh'];
  let node: KubeletNode;
  let first: string;
  const pods: Pod[] = [];
  const images: string[] = [];

  beforeAll(async () => {
    node = await KubeletNode.start();
    const cold = await node.pushImage('test/server', [{ path: 'server.sh', content: server }], command);
    const pod = await node.runPod({ image: cold, command });
    await until('the server to count', async () => (await state(pod)) > 20);
    first = await node.checkpoint(pod, 'test/server', 'first');
    await node.removePod(pod);
    await node.forget(cold);
  });
  afterAll(() => node.stop());
  afterEach(async () => {
    for (const pod of pods.splice(0)) await node.removePod(pod);
    for (const image of images.splice(0)) await node.forget(image);
  });

  async function runPod(request: Parameters<KubeletNode['runPod']>[0]): Promise<Pod> {
    images.push(request.image);
    const pod = await node.runPod({ command, ...request });
    pods.push(pod);
    return pod;
  }
  const state = async (pod: Pod) => Number(await node.exec(pod, 'cat', '/state').catch(() => '0'));
  const files = async (pod: Pod) => (await node.exec(pod, 'ls', '/')).split('\n');
  const kindsOf = async (reference: string) => {
    const { layers } = JSON.parse((await node.thaw(['inspect', reference, '--json'])).stdout);
    return layers.map(({ kind }: { kind: string }) => kind);
  };

  it('a restored container is saved again without the layers of its first checkpoint', async () => {
    const pod = await runPod({ image: first });
    expect(await state(pod)).toBeGreaterThan(20);
    await node.exec(pod, 'sh', '-c', 'rm /gen1; echo two > /gen2');
    const second = await node.checkpoint(pod, 'test/server', 'second');
    expect(await kindsOf(second)).toEqual(['index', 'data', 'base', 'base', 'diff']);
    const again = await runPod({ image: second });
    expect(await state(again)).toBeGreaterThan(20);
    expect(await files(again)).toContain('gen2');
    expect(await files(again)).not.toContain('gen1');
  });

  it('a container that started cold is saved without the diff that it never saw', async () => {
    const other = [...command, 'other'];
    const pod = await runPod({ image: first, command: other });
    await until('the server to count', async () => (await state(pod)) > 2);
    expect(await files(pod)).not.toContain('gen1');
    const second = await node.checkpoint(pod, 'test/server', 'cold');
    expect(await kindsOf(second)).toEqual(['index', 'data', 'base', 'base', 'diff']);
    const again = await runPod({ image: second, command: other });
    expect(await state(again)).toBeGreaterThan(2);
    expect(await files(again)).not.toContain('gen1');
  });

  it('a lazily pulled image is listed, completed, exported and evicted', async () => {
    const pod = await runPod({ image: first });
    await state(pod);
    // It runs before all of its memory is here.
    const checkpoints = await until('all of the checkpoint to be here', async () => {
      const status = JSON.parse((await node.thaw(['status', '--json'])).stdout);
      return status.checkpoints[0]?.state === 'complete' && status.checkpoints;
    });
    expect(checkpoints).toHaveLength(1);
    expect(checkpoints[0]).toMatchObject({ image: first, state: 'complete' });
    expect(checkpoints[0].presentBytes).toBe(checkpoints[0].storedBytes);
    expect((await node.thaw(['status'])).stdout).toContain('100 %');

    const out = '/tmp/export.tar';
    const exportImage = () =>
      node.containerd.ctr(['-n', 'k8s.io', 'images', 'export', out, first], { allowFailure: true });
    expect((await exportImage()).code).not.toBe(0);
    const fetched = JSON.parse((await node.thaw(['fetch', first, '--json'])).stdout);
    expect(fetched.image).toBe(first);
    expect(fetched.fetchedBytes).toBeGreaterThan(0);
    expect((await exportImage()).code).toBe(0);
    rmSync(out);
    expect(JSON.parse((await node.thaw(['fetch', first, '--json'])).stdout).fetchedBytes).toBe(0);

    await node.removePod(pods.pop() as Pod);
    const evict = () => node.thaw(['evict', checkpoints[0].id.slice(0, 20)], { allowFailure: true });
    const done = await until('the last container to be gone', async () => {
      const tried = await evict();
      return tried.code === 0 && tried;
    });
    expect(done.stdout).toMatch(/^Evicted sha256:[0-9a-f]{12}….*free again$/m);
    expect((await evict()).stderr).toContain('Cannot find a checkpoint');
  });
});
