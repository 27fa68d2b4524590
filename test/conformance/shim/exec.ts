/** Further processes of a container. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Code } from '../../../proto/status.ts';
import { until } from '../../lib/index.ts';
import { processSpec } from './bundle.ts';
import { fails } from './expect.ts';
import { byPeer, type PeerName } from './peer.ts';
import { Streams } from './streams.ts';
import { withRig } from './with-rig.ts';

const NEVER = -62135596800;

export function execCases(name: PeerName): void {
  describe('exec', () => {
    const at = withRig(name);

    it('goes from created to running to stopped beside the init', async () => {
      const task = await at.rig.run();
      await task.client.exec('e', processSpec(['sh', '-c', 'sleep 0.3; exit 5']));
      expect(await task.client.state('e')).toMatchObject({
        id: 'e',
        pid: 0,
        status: 'CREATED',
        exitedAt: NEVER,
        bundle: task.bundle,
      });
      const pid = await task.client.start('e');
      expect(await task.client.state('e')).toMatchObject({ pid, status: 'RUNNING' });
      expect(await task.client.wait('e')).toBe(5);
      expect(await task.client.state('e')).toMatchObject({ pid, status: 'STOPPED', exitStatus: 5 });
      expect(await task.client.delete('e')).toMatchObject({ pid, exitStatus: 5 });
      await fails(task.client.state('e'), Code.notFound, /e/);
      expect(await task.client.status()).toBe('RUNNING');
      await task.until('exit e 5');
      expect(task.events).toEqual(['create', 'start', 'exec-added e', 'exec-started e', 'exit e 5']);
    });

    it('has streams of its own', async () => {
      const task = await at.rig.run();
      const io = new Streams(at.rig.state, 'exec');
      const out = io.read('stdout');
      const err = io.read('stderr');
      await task.exec('e', ['sh', '-c', 'cat; echo no >&2'], io.paths);
      await io.write('through\n');
      await out.until(/through/);
      await task.client.closeIo('e');
      io.closeInput();
      expect(await task.client.wait('e')).toBe(0);
      await task.client.delete('e');
      expect([await out.all(), await err.all()]).toEqual(['through\n', 'no\n']);
      io.close();
    });

    it('runs as the user, with the groups, the directory and the environment that it names', async () => {
      const task = await at.rig.run();
      const io = new Streams(at.rig.state, 'exec', ['stdout', 'stderr']);
      const out = io.read('stdout');
      io.read('stderr');
      await task.exec('e', ['sh', '-c', 'id -u; id -g; id -G; pwd; echo $WORD'], io.paths, {
        user: { uid: 1000, gid: 2000, additionalGids: [3000, 4000] },
        cwd: '/tmp',
        env: ['PATH=/bin', 'WORD=said'],
      });
      await task.client.wait('e');
      await task.client.delete('e');
      expect(await out.all()).toBe('1000\n2000\n2000 3000 4000\n/tmp\nsaid\n');
      io.close();
    });

    it('runs in the container’s cgroup and namespaces, and Pids says which is which', async () => {
      const task = await at.rig.run();
      const pid = await task.exec('side', ['sleep', '1000']);
      const cgroup = (of: number) => readFileSync(`/proc/${of}/cgroup`, 'utf8');
      expect(cgroup(pid)).toBe(cgroup(task.pid));
      expect(await task.client.pids()).toEqual(
        new Map([
          [task.pid, ''],
          [pid, 'side'],
        ]),
      );
    });

    it('takes a signal that is for it alone', async () => {
      const task = await at.rig.run();
      await task.exec('a', ['sleep', '1000']);
      await task.exec('b', ['sleep', '1000']);
      await task.client.kill(9, { execId: 'a' });
      expect(await task.client.wait('a')).toBe(137);
      expect(await task.client.status('b')).toBe('RUNNING');
      expect(await task.client.status()).toBe('RUNNING');
    });

    it('carries arguments of a megabyte', async () => {
      const task = await at.rig.run();
      const io = new Streams(at.rig.state, 'exec', ['stdout', 'stderr']);
      const out = io.read('stdout');
      io.read('stderr');
      // No single argument may have more than 128 KiB, nor all together 2 MiB.
      const words = Array.from({ length: 10 }, () => 'x'.repeat(100_000));
      await task.exec('e', ['sh', '-c', 'echo $# $(echo -n "$1" | wc -c)', 'sh', ...words], io.paths);
      expect(await task.client.wait('e')).toBe(0);
      await task.client.delete('e');
      expect(await out.all()).toBe('10 100000\n');
      io.close();
    });

    it('fails to start a program that is not there, and everything about it ends', async () => {
      const task = await at.rig.run();
      await task.client.exec('e', processSpec(['no-such-program']));
      const waiting = task.client.wait('e', 10_000);
      await fails(task.client.start('e'), Code.unknown, /^OCI runtime exec failed: .*no-such-program/);
      // A client that began to wait before is not left waiting.
      await waiting;
      await task.client.delete('e');
      await fails(task.client.state('e'), Code.notFound);
      await task.exec('e', ['true']);
      expect(await task.client.wait('e')).toBe(0);
    });

    it('deletes one that was never started', async () => {
      const task = await at.rig.run();
      await task.client.exec('e', processSpec(['true']));
      await task.client.delete('e');
      await fails(task.client.state('e'), Code.notFound);
    });

    it('refuses an id twice, until the first is deleted', async () => {
      const task = await at.rig.run();
      await task.exec('e', ['true']);
      await fails(task.client.exec('e', processSpec(['true'])), Code.alreadyExists);
      await task.client.wait('e');
      await fails(task.client.exec('e', processSpec(['true'])), Code.alreadyExists);
      await task.client.delete('e');
      await task.exec('e', ['sh', '-c', 'exit 2']);
      expect(await task.client.wait('e')).toBe(2);
    });

    it('is not deleted while it runs', async () => {
      const task = await at.rig.run();
      await task.exec('e', ['sleep', '1000']);
      await fails(task.client.delete('e'), Code.unknown, /cannot delete a running process/);
      expect(await task.client.status('e')).toBe('RUNNING');
    });

    it('is not started twice', async () => {
      const task = await at.rig.run();
      await task.exec('e', ['sleep', '1000']);
      const code = byPeer(at.peer, {
        why: 'a plain error in Go',
        stock17: Code.unknown,
        stock2: Code.unknown,
        thaw: Code.failedPrecondition,
      });
      await fails(task.client.start('e'), code, /cannot start a running process/);
    });

    it('is killed before it was started: refused; after it ended: not found', async () => {
      const task = await at.rig.run();
      await task.client.exec('e', processSpec(['true']));
      await fails(task.client.kill(9, { execId: 'e' }), Code.failedPrecondition, /process not created/);
      await task.client.start('e');
      await task.client.wait('e');
      await fails(task.client.kill(9, { execId: 'e' }), Code.notFound, /process already finished/);
    });

    it('runs in a container that is created and not started', async () => {
      const task = await at.rig.create();
      await task.exec('early', ['sh', '-c', 'echo x >/early; exit 3']);
      expect(await task.client.wait('early')).toBe(3);
      expect(readFileSync(join(at.rig.upper(task.id), 'early'), 'utf8')).toBe('x\n');
      expect(await task.client.status()).toBe('CREATED');
      await task.start();
    });

    it('is refused while the container is paused', async () => {
      const task = await at.rig.run();
      await task.client.pause();
      await expect(task.client.exec('e', processSpec(['true']))).rejects.toThrow(/paused/);
      await task.client.resume();
    });

    it('is refused when the container has ended', async () => {
      const task = await at.rig.run(['true']);
      await task.client.wait();
      await expect(task.client.exec('e', processSpec(['true']))).rejects.toThrow(/stopped/);
      expect(task.events).not.toContain('exec-added e');
    });

    it('that was added before the container ended does not start after it', async () => {
      const task = await at.rig.run(['sh', '-c', 'sleep 0.3']);
      await task.client.exec('late', processSpec(['true']));
      await task.client.wait();
      const text = byPeer(at.peer, {
        why: 'from 2.0 on the shim itself refuses; 1.7 leaves it to runc or its own state',
        stock17: /not running|stopped|does not exist/i,
        stock2: /not running|stopped|does not exist/i,
        thaw: /init process is not running/,
      });
      await expect(task.client.start('late')).rejects.toThrow(text);
    });

    it('refuses a process that is no JSON', async () => {
      const task = await at.rig.run();
      await expect(task.client.exec('e', 'no object' as unknown as object)).rejects.toThrow();
      await task.exec('e', ['true']);
      expect(await task.client.wait('e')).toBe(0);
    });

    it('runs ten at once', async () => {
      const task = await at.rig.run();
      const ids = Array.from({ length: 10 }, (_, i) => `e${i}`);
      const codes = await Promise.all(
        ids.map(async (id, i) => {
          await task.exec(id, ['sh', '-c', `exit ${i}`]);
          const code = await task.client.wait(id);
          await task.client.delete(id);
          return code;
        }),
      );
      expect(codes).toEqual(ids.map((_, i) => i));
      await until('ten exits', () => task.events.filter((event) => event.startsWith('exit')).length === 10);
    });
  });
}
