/** Events: what is sent, in which order, and what becomes of it while containerd is away. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { sleep } from '../../lib/index.ts';
import { byPeer, type PeerName } from './peer.ts';
import { NAMESPACE } from './rig.ts';
import { withRig } from './with-rig.ts';

export function eventCases(name: PeerName): void {
  describe('events', () => {
    const at = withRig(name);

    it('have containerd’s types and topics, the namespace twice, and the time', async () => {
      const task = await at.rig.run();
      await task.exec('e', ['true']);
      await task.until('exit e 0');
      await task.client.pause();
      await task.client.resume();
      await task.client.kill(9);
      await task.until(`exit ${task.id} 137`);
      await task.client.delete();
      await task.until('delete');
      const seen = at.rig.events.seen.filter(({ containerId }) => containerId === task.id);
      expect(seen.map(({ topic, type }) => `${topic} ${type}`)).toEqual([
        '/tasks/create containerd.events.TaskCreate',
        '/tasks/start containerd.events.TaskStart',
        '/tasks/exec-added containerd.events.TaskExecAdded',
        '/tasks/exec-started containerd.events.TaskExecStarted',
        '/tasks/exit containerd.events.TaskExit',
        '/tasks/paused containerd.events.TaskPaused',
        '/tasks/resumed containerd.events.TaskResumed',
        '/tasks/exit containerd.events.TaskExit',
        '/tasks/delete containerd.events.TaskDelete',
      ]);
      for (const { namespace, metadata, timestampSeconds } of seen) {
        expect(namespace).toBe(NAMESPACE);
        expect(metadata['containerd-namespace-ttrpc']).toEqual([NAMESPACE]);
        expect(Math.abs(timestampSeconds - Date.now() / 1000)).toBeLessThan(30);
      }
      const exit = seen.find(({ topic, processId }) => topic === '/tasks/exit' && processId === task.id);
      expect(exit?.pid).toBe(task.pid);
    });

    it('of an exec that runs come before the exit of the init that takes it along', async () => {
      const task = await at.rig.run();
      for (const id of ['a', 'b', 'c']) await task.exec(id, ['sleep', '1000']);
      await task.client.kill(9);
      await task.until(`exit ${task.id} 137`);
      const exits = task.events.filter((event) => event.startsWith('exit'));
      expect(exits.at(-1)).toBe(`exit ${task.id} 137`);
      expect(exits.slice(0, -1).sort()).toEqual(['exit a 137', 'exit b 137', 'exit c 137']);
    });

    it('come in order however fast a process ends', async () => {
      for (let i = 0; i < 5; i += 1) {
        const task = await at.rig.run(['true']);
        await task.client.wait();
        await task.client.delete();
        await task.until('delete');
        expect(task.events).toEqual(['create', 'start', `exit ${task.id} 0`, 'delete']);
        await task.shutdown();
      }
    });

    it('wait for a containerd that restarts, none lost, none twice, in order', async () => {
      const task = await at.rig.run(['sh', '-c', 'sleep 0.5; exit 4']);
      await task.until('start');
      await at.rig.events.stop();
      await task.exec('e', ['true']).catch(() => {});
      await task.client.wait();
      await sleep(1500);
      await at.rig.events.start();
      await task.until(`exit ${task.id} 4`, 20_000);
      const seen = task.events;
      const inOrder = byPeer(at.peer, {
        why: 'containerd’s own shim puts a failed event behind later ones, and sends the next meanwhile',
        stock17: false,
        stock2: false,
        thaw: true,
      });
      if (inOrder)
        expect(seen).toEqual([
          'create',
          'start',
          'exec-added e',
          'exec-started e',
          'exit e 0',
          `exit ${task.id} 4`,
        ]);
      else
        expect([...new Set(seen)].sort()).toEqual(
          ['create', 'exec-added e', 'exec-started e', 'exit e 0', `exit ${task.id} 4`, 'start'].sort(),
        );
    });

    it('do not hold up the container while containerd is slow or fails', async () => {
      at.rig.events.mood = { kind: 'slow', ms: 800 };
      const task = await at.rig.run(['sh', '-c', 'exit 3']);
      expect(await task.client.wait()).toBe(3);
      await task.client.delete();
      expect(task.events).not.toContain('delete');
      await task.until('delete', 20_000);
      expect(task.events).toEqual(['create', 'start', `exit ${task.id} 3`, 'delete']);
    });

    it('are sent before a shim that is asked to end is gone', async () => {
      const task = await at.rig.run(['sh', '-c', 'exit 3']);
      await task.client.wait();
      at.rig.events.mood = { kind: 'slow', ms: 200 };
      await task.client.delete();
      await task.shutdown();
      await task.until('delete');
    });

    it('name the bundle’s root file system and streams at create', async () => {
      const task = await at.rig.create();
      await task.until('create');
      expect(task.events).toEqual(['create']);
      expect(readFileSync(join(task.bundle, 'init.pid'), 'utf8')).toBe(String(task.pid));
      expect(at.rig.events.seen.find(({ topic }) => topic === '/tasks/create')?.pid).toBe(task.pid);
    });
  });
}
