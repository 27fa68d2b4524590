/** The life of one container: every state that State reports, and what each call answers in it. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Code } from '../../../proto/status.ts';
import { until } from '../../lib/index.ts';
import { fails } from './expect.ts';
import { byPeer, type PeerName } from './peer.ts';
import { NAMESPACE } from './rig.ts';
import { withRig } from './with-rig.ts';

/** 0001-01-01, the zero time of Go. */
const NEVER = -62135596800;

export function lifecycleCases(name: PeerName): void {
  describe('lifecycle', () => {
    const at = withRig(name);

    it('goes from created to running to stopped, with four events', async () => {
      const task = await at.rig.create({ args: ['sh', '-c', 'echo x >/ran; exit 7'] });
      expect(task.pid).toBeGreaterThan(1);
      expect(await task.client.state()).toMatchObject({
        id: task.id,
        bundle: task.bundle,
        pid: task.pid,
        status: 'CREATED',
        exitStatus: 0,
        exitedAt: NEVER,
        execId: '',
        terminal: false,
      });
      expect(existsSync(join(at.rig.upper(task.id), 'ran'))).toBe(false);
      expect(await task.client.start()).toBe(task.pid);
      expect(await task.client.wait()).toBe(7);
      const stopped = await task.client.state();
      expect(stopped).toMatchObject({ pid: task.pid, status: 'STOPPED', exitStatus: 7 });
      expect(Math.abs(stopped.exitedAt - Date.now() / 1000)).toBeLessThan(10);
      expect(await task.client.delete()).toEqual({
        pid: task.pid,
        exitStatus: 7,
        exitedAt: stopped.exitedAt,
      });
      await task.until('delete');
      expect(task.events).toEqual(['create', 'start', `exit ${task.id} 7`, 'delete']);
      expect(existsSync(join(at.rig.upper(task.id), 'ran'))).toBe(true);
      await task.shutdown();
    });

    it('is known to runc under the namespace, at the pid it answered', async () => {
      const task = await at.rig.run();
      const state = JSON.parse(
        readFileSync(`/run/containerd/runc/${NAMESPACE}/${task.id}/state.json`, 'utf8'),
      );
      expect(state).toMatchObject({ id: task.id, init_process_pid: task.pid });
      expect(readFileSync(join(task.bundle, 'init.pid'), 'utf8')).toBe(String(task.pid));
    });

    it('deletes what was created and never started', async () => {
      const task = await at.rig.create();
      const answer = await task.client.delete();
      expect(answer.pid).toBe(task.pid);
      await task.until('delete');
      await fails(task.client.state(), Code.notFound);
      await task.shutdown();
    });

    it('kills what was created and never started', async () => {
      const task = await at.rig.create();
      await task.client.kill(9);
      expect(await task.client.wait()).toBe(137);
      await task.until(`exit ${task.id} 137`);
      expect((await task.client.delete()).exitStatus).toBe(137);
      await task.shutdown();
    });

    it('reports the signal that ended the process as 128 and its number', async () => {
      const task = await at.rig.run();
      await task.client.kill(9);
      expect(await task.client.wait()).toBe(137);
      expect((await task.client.delete()).exitStatus).toBe(137);
      expect(task.events.filter((event) => event.startsWith('exit'))).toEqual([`exit ${task.id} 137`]);
    });

    it('delivers a signal that the process handles', async () => {
      const task = await at.rig.run(['sh', '-c', 'trap "exit 9" TERM; while :; do sleep 0.05; done']);
      await until('the trap to be set', async () => (await task.client.pids()).size > 1);
      await task.client.kill(15);
      expect(await task.client.wait()).toBe(9);
    });

    it('pauses and resumes: states, events, and no work meanwhile', async () => {
      const task = await at.rig.run(['sh', '-c', 'while :; do echo x >>/ticks; sleep 0.02; done']);
      const ticks = () => readFileSync(join(at.rig.upper(task.id), 'ticks'), 'utf8').length;
      await until('work', () => ticks() > 2);
      await task.client.pause();
      expect(await task.client.status()).toBe('PAUSED');
      const seen = ticks();
      await new Promise((resolve) => setTimeout(resolve, 150));
      expect(ticks()).toBe(seen);
      await task.client.resume();
      expect(await task.client.status()).toBe('RUNNING');
      await until('more work', () => ticks() > seen);
      await task.until('resumed');
      expect(task.events).toEqual(['create', 'start', 'paused', 'resumed']);
    });

    it('ends a paused process that is killed', async () => {
      const task = await at.rig.run();
      await task.client.pause();
      await task.client.kill(9);
      await task.client.resume().catch(() => {});
      expect(await task.client.wait()).toBe(137);
      expect((await task.client.delete()).exitStatus).toBe(137);
    });

    it('lists every process, by pid', async () => {
      const task = await at.rig.run(['sh', '-c', 'sleep 1000 & sleep 1000 & wait']);
      const pids = await until('three processes', async () => {
        const found = await task.client.pids();
        return found.size === 3 && found;
      });
      expect(pids.has(task.pid)).toBe(true);
      expect([...pids.values()]).toEqual(['', '', '']);
    });

    it('keeps the exit of a process until somebody asks, and again', async () => {
      const task = await at.rig.run(['sh', '-c', 'exit 3']);
      await task.until(`exit ${task.id} 3`);
      expect(await task.client.wait()).toBe(3);
      expect(await task.client.wait()).toBe(3);
    });

    it('mounts the root file system at Create and leaves an empty folder at Delete', async () => {
      const task = await at.rig.run(['true']);
      await task.client.wait();
      const rootfs = join(task.bundle, 'rootfs');
      expect(readdirSync(rootfs)).toContain('bin');
      await task.client.delete();
      expect(readdirSync(rootfs)).toEqual([]);
    });

    it('runs on the root of the spec where Create names no mounts', async () => {
      const task = await at.rig.prepare({ args: ['sh', '-c', 'exit 4'] });
      const config = join(task.bundle, 'config.json');
      const spec = JSON.parse(readFileSync(config, 'utf8'));
      const [mount] = at.rig.overlay('root');
      const root = mount?.options?.[0]?.replace('lowerdir=', '');
      writeFileSync(config, JSON.stringify({ ...spec, root: { path: root } }));
      await task.create({ rootfs: [] });
      await task.start();
      expect(await task.client.wait()).toBe(4);
      await task.client.delete();
      expect(readdirSync(root ?? '')).toContain('bin');
    });

    it('makes a container of the same id again after it was deleted', async () => {
      const task = await at.rig.run(['true']);
      await task.client.wait();
      await task.client.delete();
      await task.create();
      await task.start();
      expect(await task.client.wait()).toBe(0);
      expect((await task.client.delete()).exitStatus).toBe(0);
    });

    it('answers Connect with its pid and the task’s, and 0 for a task it does not have', async () => {
      const task = await at.rig.prepare();
      const before = await task.client.connect();
      expect(readFileSync(`/proc/${before.shimPid}/cmdline`, 'utf8').split('\0')).toContain(task.id);
      expect(before.taskPid).toBe(0);
      await task.create();
      expect(await task.client.connect()).toEqual({ shimPid: before.shimPid, taskPid: task.pid });
      expect((await task.client.about('other').connect()).taskPid).toBe(0);
    });

    it('does not end on Shutdown while it has a container', async () => {
      const task = await at.rig.run();
      await task.client.shutdown();
      expect(await task.client.status()).toBe('RUNNING');
    });

    it('ends on Shutdown when it has none, and its socket goes', async () => {
      const task = await at.rig.run(['true']);
      await task.client.wait();
      await task.client.delete();
      await task.shutdown();
      await until('the end of the server', () => !existsSync(`/proc/${task.shimPid}`));
      await until('the socket to go', () => !existsSync(task.address.path));
    });

    it('ends a server that never got a container when it is asked to', async () => {
      const task = await at.rig.prepare();
      await task.shutdown();
      await until('the end of the server', () => !existsSync(`/proc/${task.shimPid}`));
    });

    it('leaves in the bundle what `delete` and a reload need', async () => {
      const task = await at.rig.run();
      const names = readdirSync(task.bundle);
      const expected = byPeer(at.peer, {
        why: 'containerd 2.x writes the address itself, in bootstrap.json; 1.6 and 1.7 read it from the shim’s file',
        stock17: ['address', 'options.json', 'runtime', 'init.pid'],
        stock2: ['options.json', 'runtime', 'init.pid'],
        thaw: ['address', 'options.json', 'runtime', 'init.pid'],
      });
      expect(names).toEqual(expect.arrayContaining(expected));
      if (expected.includes('address'))
        expect(readFileSync(join(task.bundle, 'address'), 'utf8')).toBe(`unix://${task.address.path}`);
    });
  });
}
