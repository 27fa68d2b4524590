import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  image,
  type Leftovers,
  layer,
  pauseImage,
  push,
  Registry,
  run,
  takeStock,
  until,
} from './lib/index.ts';

describe('the test node', () => {
  let before: Leftovers;
  beforeEach(() => {
    before = takeStock();
  });
  afterEach(async () => {
    await assertNothingLeft(before);
  });

  describe('with containerd and its own shim', () => {
    let containerd: Containerd;
    beforeAll(async () => {
      containerd = await Containerd.start({ env: { PATH: `/opt/thaw/current/criu:${process.env['PATH']}` } });
      const busyboxImage = image([await layer(busybox())], { cmd: ['sh'] });
      await containerd.importImage('test.local/busybox:1', busyboxImage);
    });
    afterAll(async () => {
      await containerd.removeContainers();
      await containerd.stop();
    });

    it('runs a container and gives its output and exit code', async () => {
      const ran = await containerd.ctr(
        ['run', '--rm', 'test.local/busybox:1', 'one', 'sh', '-c', 'echo "pid $$"; exit 7'],
        { allowFailure: true },
      );
      expect(ran.stdout).toBe('pid 1\n');
      expect(ran.code).toBe(7);
    });

    it('has a CRI plug-in that is ready for pods with a network', async () => {
      const plugins = await containerd.ctr(['plugins', 'ls']);
      const cri = plugins.stdout.split('\n').filter((line) => /\bcri\b|grpc\.v1.*cri/.test(line));
      expect(cri.join('\n')).toMatch(/ok/);
      expect(cri.join('\n')).not.toMatch(/error/);
    });

    it('dumps and restores a process with the CRIU of the install tree', async () => {
      const criu = '/opt/thaw/current/criu/criu';
      expect((await run(criu, ['--version'])).stdout).toMatch(/^Version: 4\./);
      await run(criu, ['check']);
      const ctr = (...args: string[]) => containerd.ctr(args);
      const loop = 'i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.1; done';
      await ctr('run', '-d', '--null-io', 'test.local/busybox:1', 'two', 'sh', '-c', loop);
      // Empty while the loop writes it anew.
      const count = async () =>
        Number((await ctr('task', 'exec', '--exec-id', 'read', 'two', 'cat', '/tmp/count')).stdout) ||
        undefined;
      const first = await until('the loop to count', async () => {
        const now = await count();
        return now !== undefined && now > 5 && now;
      });
      await ctr('container', 'checkpoint', '--rw', '--task', '--image', 'two', 'test.local/two:1');
      await ctr('task', 'rm', '-f', 'two');
      await ctr('container', 'rm', 'two');
      await ctr('container', 'restore', '--rw', '--live', 'two', 'test.local/two:1');
      // Memory was restored: a loop that started again would write small numbers first.
      expect(await until('the loop to go on', count)).toBeGreaterThanOrEqual(first);
      await containerd.removeContainers();
    });
  });

  it('has a registry that counts what it sends', async () => {
    const registry = await Registry.start();
    try {
      const built = await pauseImage();
      const reference = await push(registry.host, 'test/pause', '1', built);
      expect(reference).toBe(`${registry.host}/test/pause:1`);
      const digest = built.layers[0]?.digest ?? '';
      const got = await fetch(`http://${registry.host}/v2/test/pause/blobs/${digest}`, {
        headers: { range: 'bytes=0-99' },
      });
      expect(got.status).toBe(206);
      expect((await got.arrayBuffer()).byteLength).toBe(100);
      const requests = await registry.settled();
      expect(requests.filter((r) => r.method === 'GET' && r.uri.includes(digest))).toEqual([
        { method: 'GET', uri: `/v2/test/pause/blobs/${digest}`, status: 206, sent: 100 },
      ]);
    } finally {
      await registry.stop();
    }
  });

  it('shows its own cgroups and nothing of the machine', () => {
    for (const line of readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n'))
      expect(line.split(':')[2]).toMatch(/^\/(init)?$/);
    expect(readFileSync('/proc/1/cmdline', 'utf8')).toContain('enter.py');
  });
});
