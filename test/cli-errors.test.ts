/** What `thaw` says where it cannot do what it is asked for; the container goes on, and nothing is left. */
import { mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { COUNTER, type CounterNode, RUNTIME, scratch, useCounterNode } from './lib/counter-node.ts';
import { run, until } from './lib/index.ts';
import { fakeRegistry, proxyTo } from './lib/intercepted-registry.ts';

let node: CounterNode;
useCounterNode((given) => {
  node = given;
});

describe('a container that cannot be saved', () => {
  it('is unknown', async () => {
    const done = await node.thaw('checkpoint', 'nobody', '--image', `${node.registry.host}/a:b`);
    expect(done).toMatchObject({ code: 1, stdout: '' });
    expect(done.stderr).toContain('thaw: Cannot find a container nobody in the namespace default');
    await node.expectClean();
  });

  it('lives in another namespace', async () => {
    await node.startContainer('elsewhere');
    const done = await node.thaw(
      'checkpoint',
      'elsewhere',
      '--image',
      `${node.registry.host}/a:b`,
      '--namespace',
      'k8s.io',
    );
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('add --namespace default');
  });

  it('is one of several that its name fits', async () => {
    await node.startContainer('twin-1');
    await node.startContainer('twin-2');
    const done = await node.thaw('checkpoint', 'twin', '--image', `${node.registry.host}/a:b`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('any of 2 containers (twin-1, twin-2)');
  });

  it('runs under another runtime', async () => {
    await node.startContainer('plain', 'io.containerd.runc.v2');
    const done = await node.thaw('checkpoint', 'plain', '--image', `${node.registry.host}/a:b`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain(
      'its runtime is io.containerd.runc.v2; start it with runtimeClassName: thaw',
    );
    await node.expectUntouched('plain');
  });

  it('was never started', async () => {
    await node.containerd.ctr(['container', 'create', '--runtime', RUNTIME, node.base, 'created']);
    const done = await node.thaw('checkpoint', 'created', '--image', `${node.registry.host}/a:b`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('Cannot save created: it does not run');
    await node.expectClean();
  });

  it('has ended', async () => {
    await node.startContainer('ended');
    await node.client.tasks.kill('ended', 9);
    await until('its end', async () => (await node.client.tasks.get('ended')).status === 'STOPPED');
    const done = await node.thaw('checkpoint', 'ended', '--image', `${node.registry.host}/a:b`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('it is stopped; only a running container can be saved');
    await node.expectClean();
  });
});

describe('a container that CRIU cannot dump', () => {
  const save = async (script: string, ...options: string[]) => {
    const args = ['run', '-d', '--null-io', ...options, '--runtime', RUNTIME, node.base, 'held', 'sh', '-c'];
    await node.containerd.ctr([...args, script]);
    await until('the container to count', async () => (await node.count('held')) > 2);
    const done = await node.thaw('checkpoint', 'held', '--image', `${node.registry.host}/a:b`);
    expect(done.code).toBe(1);
    await node.expectUntouched('held');
    return done.stderr;
  };

  it('goes on, and the message names what it uses', async () => {
    // CRIU knows no ramfs.
    const script = `mkdir -p /held; mount -t ramfs none /held; ${COUNTER}`;
    expect(await save(script, '--privileged')).toMatch(/Cannot dump held: .*\.\/held .*held goes on running/);
  });

  it('goes on, and the message says what to do', async () => {
    // Node has an io_uring as soon as it waits for something.
    const binds = [
      [dirname(process.execPath), '/node'],
      ['/usr/lib', '/lib'],
      ['/usr/lib64', '/lib64'],
    ];
    const mounts = binds.flatMap(([source, destination]) => [
      '--mount',
      `type=bind,src=${source},dst=${destination},options=rbind:ro`,
    ]);
    const waiting = 'setInterval(() => require("fs").writeFileSync("/waits", ""), 100)';
    const script = `/node/node -e '${waiting}' & until [ -e /waits ]; do sleep 0.1; done; ${COUNTER}`;
    const said = await save(script, '--annotation', 'thaw.dev/io-uring=allow', ...mounts);
    expect(said).toMatch(/Cannot dump held: a process uses io_uring, .*thaw\.dev\/io-uring/);
  });
});

describe('a registry that does not take the image', () => {
  it.each([
    [401, 'log in with "docker login'],
    [403, 'ask for access'],
    [404, 'check the name and tag'],
    [500, 'look into the logs of the registry'],
  ])('answers %i: the container is not even paused', async (status, advice) => {
    await node.startContainer('warm');
    const fake = await fakeRegistry((_request, response) => {
      response.statusCode = status;
      response.end();
    });
    const done = await node.thaw('checkpoint', 'warm', '--image', `${fake.host}/a:b`);
    await fake.close();
    expect(done.code).toBe(1);
    expect(done.stderr).toContain(advice);
    expect(done.stderr).toContain(String(status));
    expect(done.stderr).not.toContain('Dumping');
    await node.expectUntouched('warm');
  });

  it('is not there', async () => {
    await node.startContainer('warm');
    const fake = await fakeRegistry(() => undefined);
    await fake.close();
    const done = await node.thaw('checkpoint', 'warm', '--image', `${fake.host}/a:b`);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('check the network and that the registry is up');
    await node.expectUntouched('warm');
  });

  it('breaks down half-way: the container goes on and everything is removed', async () => {
    await node.startContainer('warm');
    let manifests = 0;
    const proxy = await proxyTo(node.registry.host, (request, response) => {
      if (request.method !== 'PUT' || !request.url?.includes('/manifests/')) return false;
      manifests++;
      response.statusCode = 400;
      response.end();
      return true;
    });
    const done = await node.thaw('checkpoint', 'warm', '--image', `${proxy.host}/half/way:1`);
    await proxy.close();
    expect(done.code).toBe(1);
    expect(manifests, done.stderr).toBe(1);
    expect(done.stderr).toContain('Dumping the processes');
    await node.expectUntouched('warm');
  });
});

describe('a node that is not ready', () => {
  it('has no containerd', async () => {
    const done = await run('thaw', ['--address', '/run/none.sock', 'checkpoint', 'a', '--image', 'b/c:d'], {
      allowFailure: true,
    });
    expect(done).toMatchObject({ code: 1, stdout: '' });
    expect(done.stderr).toContain('Cannot reach containerd at /run/none.sock: start containerd');
  });

  it('has no thaw-snapshotter', async () => {
    const done = await node.thaw('status', '--socket', '/run/none.sock');
    expect(done.code).toBe(1);
    expect(done.stderr).toContain('Cannot reach thaw-snapshotter at /run/none.sock: start it');
  });

  describe('with little space', () => {
    const small = '/var/lib/thaw/small';
    const mount = (bytes: number) => run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', small]);
    beforeEach(() => void mkdirSync(small, { recursive: true }));
    afterEach(async () => {
      await run('umount', [small], { allowFailure: true });
      rmSync(small, { recursive: true });
    });

    it('refuses before the container is paused', async () => {
      await node.startContainer('warm');
      await mount(16 << 10);
      const done = await node.thaw(
        'checkpoint',
        'warm',
        '--image',
        `${node.registry.host}/a:b`,
        '--work-dir',
        small,
      );
      expect(done.code).toBe(1);
      expect(done.stderr).toContain(`${small} has`);
      expect(done.stderr).not.toContain('Dumping');
      expect(scratch(small)).toEqual([]);
      await node.expectUntouched('warm');
    });

    it('stops when the space runs out during the dump, and the container goes on', async () => {
      await node.startContainer('warm');
      // Enough for the memory itself (about 120 KiB), not for what CRIU writes beside it.
      await mount(192 << 10);
      const done = await node.thaw(
        'checkpoint',
        'warm',
        '--image',
        `${node.registry.host}/a:b`,
        '--work-dir',
        small,
      );
      expect(done.code).toBe(1);
      expect(done.stderr).toContain(`${small} is full`);
      expect(scratch(small)).toEqual([]);
      await node.expectUntouched('warm');
    });
  });
});

it('inspect tells an ordinary image from a checkpoint', async () => {
  const done = await node.thaw('inspect', node.base);
  expect(done.code).toBe(1);
  expect(done.stderr).toContain('is an ordinary image, not a checkpoint');
});
