/** Processes that end at the worst moment, and calls that come all at once. */
import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Code, describeError } from '../../../proto/status.ts';
import { until } from '../../lib/index.ts';
import { longCase } from './long.ts';
import type { PeerName } from './peer.ts';
import { StandInRunc } from './stand-in-runc.ts';
import { runcOptions } from './task-client.ts';
import { withRig } from './with-rig.ts';

const GROUP = { 'io.containerd.runc.v2.group': 'races' };

export function raceCases(name: PeerName): void {
  describe('races', () => {
    const at = withRig(name);

    longCase(
      'every one of many short containers in one server is told of once, in order',
      { what: 'containers in a row', short: 30, full: 1000 },
      async (count) => {
        const keeper = await at.rig.run({ annotations: GROUP });
        const fds = () => readdirSync(`/proc/${keeper.shimPid}/fd`).length;
        let before = 0;
        for (let i = 0; i < count; i += 1) {
          const task = await at.rig.prepare({ args: ['sh', '-c', `exit ${i % 256}`], annotations: GROUP });
          await task.create();
          await task.start();
          expect(await task.client.wait()).toBe(i % 256);
          expect(await task.client.delete()).toMatchObject({ pid: task.pid, exitStatus: i % 256 });
          await task.until('delete');
          expect(task.events).toEqual(['create', 'start', `exit ${task.id} ${i % 256}`, 'delete']);
          await task.shutdown();
          if (i === 9) before = fds();
        }
        expect(await keeper.client.status()).toBe('RUNNING');
        // Some are on their way; a leak would be of one a container at least.
        expect(fds()).toBeLessThanOrEqual(before + 8);
      },
    );

    longCase(
      'every one of many short execs is told of once, in order',
      { what: 'execs in a row', short: 30, full: 1000 },
      async (count) => {
        const task = await at.rig.run();
        const fds = () => readdirSync(`/proc/${task.shimPid}/fd`).length;
        let before = 0;
        for (let i = 0; i < count; i += 1) {
          const id = `e${i}`;
          await task.exec(id, ['sh', '-c', `exit ${i % 256}`]);
          expect(await task.client.wait(id)).toBe(i % 256);
          await task.until(`exit ${id} ${i % 256}`);
          await task.client.delete(id);
          const events = task.events.filter((event) => event.split(' ').includes(id));
          expect(events).toEqual([`exec-added ${id}`, `exec-started ${id}`, `exit ${id} ${i % 256}`]);
          if (i === 9) before = fds();
        }
        // Some are on their way; a leak would be of one an exec at least.
        expect(fds()).toBeLessThanOrEqual(before + 8);
      },
    );

    longCase(
      'containers that begin and end at once keep apart',
      { what: 'containers, eight at a time', short: 16, full: 1000 },
      async (count) => {
        let next = 0;
        const worker = async () => {
          while (next < count) {
            const i = next++;
            const task = await at.rig.run(['sh', '-c', `exit ${i % 256}`]);
            expect(await task.client.wait()).toBe(i % 256);
            await task.client.delete();
            await task.until('delete', 30_000);
            expect(task.events).toEqual(['create', 'start', `exit ${task.id} ${i % 256}`, 'delete']);
            await task.shutdown();
          }
        };
        await Promise.all(Array.from({ length: 8 }, worker));
      },
    );

    it('tells all of fifty who wait', async () => {
      const task = await at.rig.run();
      await task.exec('e', ['sleep', '1000']);
      const waits = Array.from({ length: 25 }, () => [task.client.wait(), task.client.wait('e')]).flat();
      await task.client.kill(9, { execId: 'e' });
      await task.client.wait('e');
      await task.client.kill(9);
      expect(new Set(await Promise.all(waits))).toEqual(new Set([137]));
    });

    // containerd gives a State two seconds before it says UNKNOWN.
    it('answers State while other calls are under way, and before them', async () => {
      const runc = new StandInRunc(at.rig.work, 'exec', 'until off');
      const task = await at.rig.run({ create: { options: runcOptions({ binaryName: runc.path }) } });
      runc.on();
      let started = 0;
      const execs = Array.from({ length: 6 }, async (_, i) => {
        await task.exec(`e${i}`, ['true']);
        started += 1;
      });
      for (let i = 0; i < 20; i += 1) expect(await task.client.status()).toBe('RUNNING');
      expect(started).toBe(0);
      runc.off();
      await Promise.all(execs);
    });

    it('lets only one of several Deletes have the exit', async () => {
      const task = await at.rig.run(['sh', '-c', 'exit 6']);
      await task.client.wait();
      const outcomes = await Promise.all(
        Array.from({ length: 5 }, () =>
          task.client.delete().then(
            (answer) => answer.exitStatus,
            (error: unknown) => describeError(error).code,
          ),
        ),
      );
      expect(outcomes.filter((outcome) => outcome === 6).length).toBeGreaterThanOrEqual(1);
      await task.until('delete');
      await expect(task.client.delete()).rejects.toMatchObject({ code: Code.notFound });
    });

    it('kills a process as it ends, again and again', async () => {
      for (let i = 0; i < 8; i += 1) {
        const task = await at.rig.run(['sh', '-c', 'sleep 0.02']);
        const kills = Promise.allSettled([
          task.client.kill(9),
          task.client.kill(9, { all: true }),
          task.client.kill(15),
        ]);
        expect([0, 137, 143]).toContain(await task.client.wait());
        for (const outcome of await kills)
          if (outcome.status === 'rejected')
            expect(describeError(outcome.reason), String(outcome.reason)).toMatchObject({
              code: Code.notFound,
            });
        await task.client.delete();
        await task.shutdown();
      }
    });

    it('starts an exec as the container ends: it ran before, or it is refused; never a lost exit', async () => {
      for (let i = 0; i < 8; i += 1) {
        const task = await at.rig.run(['sh', '-c', `sleep 0.0${i}`]);
        const started = await task.exec('e', ['true']).then(
          () => true,
          () => false,
        );
        await task.until(`exit ${task.id} 0`);
        const exits = task.events.filter((event) => event.startsWith('exit'));
        expect(exits.at(-1)).toBe(`exit ${task.id} 0`);
        if (started) expect(exits).toHaveLength(2);
        else expect(exits).toHaveLength(1);
        await task.client.delete();
      }
    });

    it('kills a container while it is being started', async () => {
      for (let i = 0; i < 5; i += 1) {
        const task = await at.rig.create();
        const [started] = await Promise.allSettled([task.client.start(), task.client.kill(9)]);
        if (started.status === 'fulfilled') expect(started.value).toBe(task.pid);
        await until('the end', async () => (await task.client.status()) === 'STOPPED');
        expect(await task.client.wait()).toBe(137);
        const events = task.events.filter((event) => event.startsWith('exit') || event === 'start');
        if (events.includes('start')) expect(events).toEqual(['start', `exit ${task.id} 137`]);
      }
    });
  });
}
