/**
 * What users of containerd suffered, provoked again. Each case names the issue at github.com/containerd/containerd; a case
 * passes on containerd's own shim where the issue is fixed or lies elsewhere, and says so where it does not.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Code, describeError } from '../../../proto/status.ts';
import { sleep, until } from '../../lib/index.ts';
import { fails } from './expect.ts';
import { longCase } from './long.ts';
import { byPeer, type PeerName } from './peer.ts';
import { processes, zombiesOf } from './processes.ts';
import { alive, type Task } from './rig.ts';
import { StandInRunc } from './stand-in-runc.ts';
import { runcOptions } from './task-client.ts';
import { withRig } from './with-rig.ts';

const deadline = (call: Promise<unknown>) => fails(call, Code.deadlineExceeded);
/** As `deadline`; the stock shim's own answer, which wraps the same error without its code, may just be the first. */
const deadlineOrAnswer = (call: Promise<unknown>) =>
  deadline(call).catch(() => fails(call, Code.unknown, /context deadline exceeded/));

export function upstreamIssueCases(name: PeerName): void {
  describe('upstream issue', () => {
    const at = withRig(name);
    const standIn = (...how: [command: string, how?: number | 'until off']) =>
      new StandInRunc(at.rig.work, ...how);
    /** Runcs that hang for ever. */
    const hung = () => processes().filter(({ command }) => command.startsWith('sleep 100000')).length;
    const runWith = (runc: StandInRunc, args?: readonly string[], more: object = {}) =>
      at.rig.run({
        ...(args ? { args } : {}),
        create: { options: runcOptions({ binaryName: runc.path }) },
        ...more,
      });

    it('6771: an exit while containerd was down is told of when it is back', async () => {
      const task = await at.rig.run(['sh', '-c', 'sleep 0.3; exit 4']);
      await task.until('start');
      await at.rig.events.stop();
      expect(await task.client.wait()).toBe(4);
      await sleep(3000);
      await at.rig.events.start();
      await task.until(`exit ${task.id} 4`, 20_000);
      expect(await task.client.state()).toMatchObject({ status: 'STOPPED', exitStatus: 4 });
      expect(task.events).toEqual(['create', 'start', `exit ${task.id} 4`]);
      expect((await task.client.delete()).exitStatus).toBe(4);
    });

    it('9309: a Delete that was given up can be repeated, and the shim ends', async () => {
      const runc = standIn('delete', 1.5);
      const task = await runWith(runc, ['true']);
      await task.client.wait();
      runc.on();
      await deadline(task.client.delete('', 500));
      runc.off();
      await until('a Delete to succeed, or to find nothing', () =>
        task.client.delete('', 5000).then(
          () => true,
          (error: unknown) => describeError(error).code === Code.notFound,
        ),
      );
      await fails(task.client.state(), Code.notFound);
      expect(existsSync(`/run/containerd/runc/default/${task.id}`)).toBe(false);
      await task.until('delete');
      await task.shutdown();
      await until('the end of the shim', () => !alive(task.shimPid));
      expect(task.events).toEqual(['create', 'start', `exit ${task.id} 0`, 'delete']);
    });

    longCase(
      '9719: the exit of an exec never comes after that of the init, however close they are',
      { what: 'containers that end with an exec', short: 10, full: 1000 },
      async (count) => {
        for (let i = 0; i < count; i += 1) {
          const task = await at.rig.run(['sh', '-c', `sleep 0.0${4 + (i % 5)}`]);
          await task.exec('e', ['true']).catch(() => {});
          await task.until(/^exit c\d+ 0$/);
          // Nothing follows it.
          await task.client.delete();
          await task.until('delete');
          const exits = task.events.filter((event) => event.startsWith('exit'));
          expect(exits.at(-1)).toBe(`exit ${task.id} 0`);
          if (!task.events.includes('exec-started e')) expect(exits).toHaveLength(1);
          else {
            expect(exits).toHaveLength(2);
            // The kernel kills what is left in a PID namespace whose init ends.
            expect(exits[0]).toMatch(/^exit e (0|137)$/);
          }
          await task.shutdown();
        }
      },
    );

    it('4769: an exit is told of once, though it is waited for, deleted, and cleaned up after', async () => {
      const task = await at.rig.run(['sh', '-c', 'exit 3']);
      await Promise.all([task.client.wait(), task.client.wait(), task.client.wait()]);
      await task.client.kill(9).catch(() => {});
      await task.client.delete();
      await task.client.delete().catch(() => {});
      await task.shutdown();
      await sleep(300);
      expect(task.events).toEqual(['create', 'start', `exit ${task.id} 3`, 'delete']);
    });

    it('13848: a Delete that hangs keeps no other call from its answer', async () => {
      const runc = standIn('delete');
      const annotations = { 'io.containerd.runc.v2.group': 'stuck' };
      const task = await runWith(runc, ['true'], { annotations });
      await task.client.wait();
      runc.on();
      await deadline(task.client.delete('', 1000));
      // What containerd asks at boot, with five seconds for it.
      expect((await task.client.connect()).shimPid).toBe(task.shimPid);
      const outcome = await task.client.pids().catch((error: unknown) => describeError(error).code);
      expect(outcome).not.toBe(Code.deadlineExceeded);
      const second = await at.rig.run({ annotations, args: ['sh', '-c', 'exit 5'] });
      expect(await second.client.wait()).toBe(5);
      expect((await second.client.delete()).exitStatus).toBe(5);
      runc.off();
    });

    it('14081: a Kill that hangs is given up, again and again, and nothing piles up', async () => {
      const runc = standIn('kill');
      const task = await runWith(runc);
      runc.on();
      const hangs = byPeer(at.peer, {
        why: 'our shim signals a process without runc',
        stock17: true,
        stock2: true,
        thaw: false,
      });
      const kill = () => task.client.kill(15, { timeoutMs: 400 });
      if (hangs) await Promise.all(Array.from({ length: 20 }, () => deadlineOrAnswer(kill())));
      else await Promise.allSettled(Array.from({ length: 20 }, kill));
      expect(await task.client.status()).not.toBe('UNKNOWN');
      runc.off();
      await until('hung runcs to be gone', () => hung() === 0, 20_000);
      await task.client.kill(9).catch(() => {});
      expect([137, 143]).toContain(await task.client.wait());
    });

    it('13849: no exit is dropped when hundreds of processes end while the shim cannot run', async () => {
      const task = await at.rig.run({ hostPid: true });
      const ids = Array.from({ length: 12 }, (_, i) => `e${i}`);
      const script =
        'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (sleep 0.5 &); done; sleep 0.4; exit 7';
      await Promise.all(ids.map((id) => task.exec(id, ['sh', '-c', script])));
      // Longer than containerd's own reaper waits for somebody to take an exit from it.
      process.kill(task.shimPid, 'SIGSTOP');
      await sleep(1500);
      process.kill(task.shimPid, 'SIGCONT');
      expect(await Promise.all(ids.map((id) => task.client.wait(id)))).toEqual(ids.map(() => 7));
      for (const id of ids) await task.until(`exit ${id} 7`);
      await until('what was left to be reaped', () => zombiesOf(task.shimPid).length === 0);
      await task.client.kill(9);
      expect(await task.client.wait()).toBe(137);
      await task.until(`exit ${task.id} 137`);
    });

    it('13033: an error about a dump or a restore names no log that is not there', async () => {
      const task = await at.rig.run();
      const image = join(at.rig.work, 'image');
      // CRIU cannot dump a process that a debugger holds.
      const tracer = spawn('strace', ['-p', String(task.pid), '-o', '/dev/null'], { stdio: 'ignore' });
      await until('the tracer', () => processes().some(({ command }) => command.startsWith('strace')));
      await sleep(200);
      const error = await task.client.checkpoint(image).then(
        () => undefined,
        (caught: unknown) => describeError(caught),
      );
      tracer.kill('SIGKILL');
      expect(error?.message).toMatch(/OCI runtime checkpoint failed|criu/i);
      const logs = [...(error?.message.matchAll(/\/[\w./-]+\.log/g) ?? [])].map(([path]) => path);
      const there = byPeer(at.peer, {
        why: 'containerd’s own names criu-dump.log also where it did not copy CRIU’s log to it: the open issue',
        stock17: false,
        stock2: false,
        thaw: true,
      });
      expect(
        logs.every((path) => existsSync(path)),
        logs.join(' '),
      ).toBe(there);
      await until('the container to go on', async () => (await task.client.status()) === 'RUNNING');
    });

    it('7496: a root file system that is in use does not keep a container from being deleted', async () => {
      const task = await at.rig.run(['true']);
      await task.client.wait();
      const holder = spawn('sleep', ['1000'], { cwd: join(task.bundle, 'rootfs'), stdio: 'ignore' });
      await until('the holder', () => alive(holder.pid ?? 0));
      const deletes = byPeer(at.peer, {
        why: 'containerd’s own gives up at EBUSY, and the pod stays until the holder goes (also issue 4020)',
        stock17: false,
        stock2: false,
        thaw: true,
      });
      if (!deletes) {
        await expect(task.client.delete()).rejects.toThrow(/device or resource busy/);
        holder.kill('SIGKILL');
        return;
      }
      expect((await task.client.delete()).exitStatus).toBe(0);
      await task.shutdown();
      await until('the end of the shim', () => !alive(task.shimPid));
      expect(alive(holder.pid ?? 0)).toBe(true);
      holder.kill('SIGKILL');
    });

    it('7496: Wait is answered while the disk holds Delete up', async () => {
      const runc = standIn('delete', 'until off');
      const task = await runWith(runc, ['sh', '-c', 'exit 6']);
      await task.client.wait();
      runc.on();
      let isDeleted = false;
      const deleting = task.client.delete().finally(() => {
        isDeleted = true;
      });
      const answers = byPeer(at.peer, {
        why: 'the Wait of containerd’s own takes the lock that Delete holds',
        stock17: false,
        stock2: false,
        thaw: true,
      });
      if (answers) {
        expect(await task.client.wait()).toBe(6);
        expect(isDeleted).toBe(false);
      }
      runc.off();
      expect((await deleting).exitStatus).toBe(6);
    });

    it('5708: under an init that does not reap, a pod leaves one zombie, its server, and none while it runs', async () => {
      const script = join(at.rig.work, 'init.py');
      // A subreaper that reaps nothing, as containerd does when it is PID 1.
      writeFileSync(
        script,
        'import ctypes, os, sys\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n' +
          'pid = os.fork()\nif pid == 0:\n  null = os.open("/dev/null", os.O_RDWR)\n  os.dup2(null, 0)\n  os.dup2(null, 1)\n  os.execv(sys.argv[1], sys.argv[1:])\n' +
          'os.waitpid(pid, 0)\nprint("started", flush=True)\nsys.stdin.read()\n',
      );
      mkdirSync(at.rig.work, { recursive: true });
      const call = at.rig.bundle({ id: 'childless' });
      const flags = [
        '-namespace',
        'default',
        '-address',
        at.rig.daemon.address,
        '-publish-binary',
        '/x',
        '-id',
        'childless',
        'start',
      ];
      const init = spawn('python3', [script, at.peer.program, ...flags], {
        cwd: call.bundle,
        env: { ...process.env, TTRPC_ADDRESS: at.rig.daemon.ttrpcAddress },
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      let said = '';
      init.stdout.on('data', (chunk: Buffer) => {
        said += chunk;
      });
      await until('the shim', () => said.includes('started'));
      const zombies = () => zombiesOf(init.pid ?? 0);
      const task: Task = await at.rig.adopt(call);
      await task.create();
      for (const id of ['a', 'b']) {
        await task.exec(id, ['sh', '-c', '(true &); true']);
        await task.client.wait(id);
        await task.client.delete(id);
      }
      await task.start();
      expect(zombies()).toEqual([]);
      await task.remove();
      await until(
        'the server to end',
        () => !processes().some(({ pid, state }) => pid === task.shimPid && state !== 'Z'),
      );
      expect(zombies().length).toBeLessThanOrEqual(1);
      init.stdin.end();
      await until('the init to end', () => !alive(init.pid ?? 0));
    });
  });
}
