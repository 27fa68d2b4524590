/** Several containers in one server, and processes that outlive the one that began them. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { until } from '../../lib/index.ts';
import type { PeerName } from './peer.ts';
import { processes, zombiesOf } from './processes.ts';
import { alive } from './rig.ts';
import { withRig } from './with-rig.ts';

export function podCases(name: PeerName): void {
  describe('pods', () => {
    const at = withRig(name);

    it.each(['io.containerd.runc.v2.group', 'io.kubernetes.cri.sandbox-id'])(
      'have one server for all containers of the same %s',
      async (annotation) => {
        const annotations = { [annotation]: 'pod-a' };
        const first = await at.rig.run({ annotations });
        const second = await at.rig.run({ annotations });
        const other = await at.rig.run({ annotations: { [annotation]: 'pod-b' } });
        expect(second.address).toEqual(first.address);
        expect(second.shimPid).toBe(first.shimPid);
        expect(other.shimPid).not.toBe(first.shimPid);
        expect((await first.client.about(second.id).state()).pid).toBe(second.pid);
        await first.remove();
        expect(await second.client.status()).toBe('RUNNING');
        await second.remove();
        await until('the end of the server', () => !alive(first.shimPid));
      },
    );

    it('put what each container needs into its own bundle', async () => {
      const annotations = { 'io.containerd.runc.v2.group': 'pod' };
      const [first, second] = [await at.rig.run({ annotations }), await at.rig.run({ annotations })];
      for (const task of [first, second])
        expect(readFileSync(join(task.bundle, 'init.pid'), 'utf8')).toBe(String(task.pid));
    });

    it('get a new server where the old one was killed', async () => {
      const annotations = { 'io.containerd.runc.v2.group': 'pod' };
      const first = await at.rig.run({ annotations });
      const second = await at.rig.run({ annotations });
      await first.killShim();
      expect(existsSync(first.address.path)).toBe(true);
      const third = await at.rig.run({ annotations });
      expect(third.address).toEqual(first.address);
      expect(third.shimPid).not.toBe(first.shimPid);
      await first.discard();
      await second.discard();
      expect([alive(first.pid), alive(second.pid)]).toEqual([false, false]);
      // The socket is the new server's now.
      expect(await third.client.status()).toBe('RUNNING');
      expect((await third.client.connect()).shimPid).toBe(third.shimPid);
    });

    it('that share a PID namespace lose all of a container when its init ends', async () => {
      const annotations = { 'io.containerd.runc.v2.group': 'pod' };
      const pause = await at.rig.run({ annotations });
      const task = await at.rig.run({
        annotations,
        pidNamespace: `/proc/${pause.pid}/ns/pid`,
        args: ['sh', '-c', '(sleep 1000 &); (sleep 1000 &); sleep 0.3; exit 3'],
      });
      await task.exec('side', ['sleep', '1000']).catch(() => {});
      expect(await task.client.wait()).toBe(3);
      await until('the others to be gone', () => {
        try {
          return readFileSync(`/sys/fs/cgroup/pids/default/${task.id}/cgroup.procs`, 'utf8') === '';
        } catch {
          return true;
        }
      });
      expect(await pause.client.status()).toBe('RUNNING');
      expect((await task.client.delete()).exitStatus).toBe(3);
    });

    it('on the node’s PID namespace have what their processes leave adopted and reaped', async () => {
      const task = await at.rig.run({ hostPid: true });
      for (let i = 0; i < 10; i += 1) {
        await task.exec(`e${i}`, ['sh', '-c', '(sleep 0.2 &); exit 0']);
        expect(await task.client.wait(`e${i}`)).toBe(0);
      }
      await until('all of them to end', async () => (await task.client.pids()).size === 1);
      await until('all to be reaped', () => zombiesOf(task.shimPid).length === 0);
    });

    it('on the node’s PID namespace lose daemons when the init ends', async () => {
      const marker = `4${process.pid}`;
      const task = await at.rig.run({
        hostPid: true,
        args: ['sh', '-c', `(sleep ${marker} &); sleep 0.2; exit 2`],
      });
      expect(await task.client.wait()).toBe(2);
      await until(
        'the daemon to end',
        () => !processes().some(({ command }) => command === `sleep ${marker}`),
      );
      await until('it to be reaped', () => zombiesOf(task.shimPid).length === 0);
    });

    it('kill everything in a container with `all`', async () => {
      const task = await at.rig.run({ hostPid: true, args: ['sh', '-c', 'sleep 1000 & sleep 1000 & wait'] });
      await until('three processes', async () => (await task.client.pids()).size === 3);
      await task.client.kill(9, { all: true });
      expect(await task.client.wait()).toBe(137);
    });
  });
}
