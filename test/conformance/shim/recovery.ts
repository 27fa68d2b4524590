/** containerd and shims that are killed at any moment, under a real containerd. */
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  Daemon,
  image,
  type Leftovers,
  layer,
  privateDir,
  sleep,
  takeStock,
  until,
} from '../../lib/index.ts';
import { byPeer, type Peer, type PeerName, peer as peerOf } from './peer.ts';
import { processes } from './processes.ts';

const IMAGE = 'test.local/busybox:1';

export function recoveryCases(name: PeerName): void {
  describe('recovery', () => {
    let peer: Peer;
    let containerd: Containerd;
    let before: Leftovers;
    let directory: string;
    const children: { kill: (signal: 'SIGKILL') => unknown }[] = [];

    beforeAll(async () => {
      peer = await peerOf(name);
      directory = privateDir('recovery');
      makeRunc();
      containerd = await Containerd.start({ env: { PATH: `${directory}/bin:${process.env['PATH']}` } });
      await containerd.importImage(IMAGE, image([await layer(busybox())], { cmd: ['sh'] }));
    });
    afterAll(async () => {
      await containerd.stop();
      rmSync(directory, { recursive: true, force: true });
    });
    beforeEach(() => {
      before = takeStock();
    });
    afterEach(async () => {
      delay();
      for (const child of children.splice(0)) child.kill('SIGKILL');
      await containerd.removeContainers();
      const expected = [/^files: \/run\/containerd\/fifo\/\d+(\/side-std\w+)?$/];
      // containerd's own shim leaves the socket of a server that was killed.
      if (name === 'stock') expected.push(/^files: \/run\/containerd\/s\/[0-9a-f]{64}$/);
      await assertNothingLeft(before, 15_000, expected);
    });

    /** A runc in front of the real one on containerd's PATH, which waits before a command when it is told to. */
    function makeRunc(): void {
      mkdirSync(join(directory, 'bin'));
      const script = `#!/bin/sh
if read -r command seconds 2>/dev/null <${directory}/delay; then
  for word; do [ "$word" = "$command" ] && sleep "$seconds"; done
fi
exec /usr/sbin/runc "$@"
`;
      writeFileSync(join(directory, 'bin/runc'), script);
      chmodSync(join(directory, 'bin/runc'), 0o755);
    }
    function delay(command = '', seconds = 0): void {
      if (command) writeFileSync(`${directory}/delay`, `${command} ${seconds}\n`);
      else rmSync(`${directory}/delay`, { force: true });
    }

    const ctr = (...args: string[]) => containerd.ctr(args, { allowFailure: true });
    const run = (id: string, ...command: string[]) =>
      ctr('run', '--runtime', peer.runtime, '-d', '--null-io', IMAGE, id, ...command);
    /** A client that will not hear the end of it. */
    const begin = (...args: string[]) => {
      children.push(spawn('ctr', ['--address', containerd.socket, ...args], { stdio: 'ignore' }));
    };
    const row = async (id: string) =>
      (await ctr('task', 'ls')).stdout
        .split('\n')
        .map((line) => line.trim().split(/\s+/))
        .find(([first]) => first === id);
    const status = async (id: string) => (await row(id))?.[2];
    const pid = async (id: string) => Number((await row(id))?.[1]);
    /** Servers, by the flags that both have, of this containerd. */
    const shims = () =>
      processes().filter(({ command }) => {
        const words = command.split(' ');
        return words[words.indexOf('-address') + 1] === containerd.socket && words.includes('-namespace');
      });
    const shimOf = (id: string) => shims().find(({ command }) => command.split(' ').includes(id))?.pid ?? 0;
    const kill = (target: number) => {
      // 0 would be our own process group.
      expect(target).toBeGreaterThan(1);
      process.kill(target, 'SIGKILL');
    };
    const exec = (id: string, ...command: string[]) =>
      ctr('task', 'exec', '--exec-id', `x${Math.random().toString(36).slice(2)}`, id, ...command);
    const crash = async (whileDownMs = 0) => {
      await containerd.kill();
      await sleep(whileDownMs);
      await containerd.restart();
    };
    const works = async (id: string) => expect((await exec(id, 'echo', 'here')).stdout).toBe('here\n');

    /** `ctr events` into a file, from when it is sure to hear what happens. */
    const listen = (log: string) =>
      Daemon.start('ctr', ['--address', containerd.socket, 'events'], {
        log,
        ready: async () => {
          await ctr('namespaces', 'label', 'default', `probe=${Math.random()}`);
          return readFileSync(log, 'utf8').includes('/namespaces/update');
        },
      });

    it('finds a running container as it was', async () => {
      await run('stays', 'sleep', '1000');
      const was = await pid('stays');
      await crash();
      expect(await row('stays')).toEqual(['stays', String(was), 'RUNNING']);
      await works('stays');
      await ctr('task', 'kill', '-s', 'KILL', 'stays');
      await until('the kill to be seen', async () => (await status('stays')) === 'STOPPED');
    });

    it('finds a paused container as it was', async () => {
      await run('frozen', 'sleep', '1000');
      await ctr('task', 'pause', 'frozen');
      await crash();
      expect(await status('frozen')).toBe('PAUSED');
      await ctr('task', 'resume', 'frozen');
      await works('frozen');
    });

    /** The exit code that containerd knows after it came back, and that `ctr task rm` tells. */
    const keepsExit = async (id: string, code: number) => {
      const keeps = byPeer(peer, {
        why: 'containerd takes a shim without processes for a leaked one, and removes the task with its exit code',
        stock17: false,
        stock2: false,
        thaw: true,
      });
      if (keeps) {
        await until('the exit to be known', async () => (await status(id)) === 'STOPPED');
        expect((await ctr('task', 'rm', id)).stderr).toContain(`exit code ${code}`);
      } else await until('the task to be gone', async () => (await status(id)) === undefined);
      await ctr('container', 'rm', id);
    };

    it('finds a container that had ended, with its exit code', async () => {
      await run('over', 'sh', '-c', 'exit 6');
      await until('the end', async () => (await status('over')) === 'STOPPED');
      await crash();
      await keepsExit('over', 6);
    });

    it('tells of an exit that came while containerd was away (6771)', async () => {
      await run('went', 'sh', '-c', 'sleep 1; exit 4');
      await crash(2000);
      await keepsExit('went', 4);
    });

    it('tells of an exit that comes while containerd boots', async () => {
      for (const wait of ['0.2', '0.5', '0.8']) {
        await run('boots', 'sh', '-c', `sleep ${wait}; exit 5`);
        await crash();
        // With containerd's own it depends on the moment whether the task is still there.
        if (peer.name === 'thaw') await keepsExit('boots', 5);
        else await until('an end', async () => (await status('boots')) !== 'RUNNING');
        await ctr('task', 'rm', '-f', 'boots');
        await ctr('container', 'rm', 'boots');
      }
    });

    it('leaves nothing of a container in whose Create it was killed (6860)', async () => {
      delay('create', 2);
      begin('run', '--runtime', peer.runtime, '-d', '--null-io', IMAGE, 'half', 'sleep', '1000');
      await until('runc create', () => processes().some(({ command }) => command === 'sleep 2'));
      await containerd.kill();
      delay();
      await sleep(200);
      await containerd.restart();
      // Either the container is there, created, or it is gone and so is its shim.
      await until(
        'the shim to be known or gone',
        async () => (await status('half')) === 'CREATED' || shims().length === 0,
        20_000,
      );
      await ctr('task', 'rm', '-f', 'half');
      await ctr('container', 'rm', 'half');
      await until('the shim to end', () => shims().length === 0);
      // The id is free.
      expect(
        (await ctr('run', '--rm', '--runtime', peer.runtime, IMAGE, 'half', 'echo', 'again')).stdout,
      ).toBe('again\n');
    });

    it('finds a container in whose Start it was killed', async () => {
      await ctr('container', 'create', '--runtime', peer.runtime, IMAGE, 'starting', 'sleep', '1000');
      delay('start', 1);
      begin('task', 'start', '-d', '--null-io', 'starting');
      await until('the task', () => shimOf('starting') > 0);
      await until('Start, or its end', () =>
        processes().some(({ command }) => command === 'sleep 1' || command === 'sleep 1000'),
      );
      await containerd.kill();
      delay();
      await sleep(1500);
      await containerd.restart();
      const found = await status('starting');
      expect(['RUNNING', 'CREATED']).toContain(found);
      if (found === 'RUNNING') await works('starting');
      await ctr('task', 'rm', '-f', 'starting');
      await until('the shim to end', () => shims().length === 0);
    });

    it('finds a container in which an exec was being started', async () => {
      await run('busy', 'sleep', '1000');
      delay('exec', 1);
      begin('task', 'exec', '-d', '--exec-id', 'side', 'busy', 'sh', '-c', 'sleep 1000');
      await until('runc exec', () => processes().some(({ command }) => command === 'sleep 1'));
      await containerd.kill();
      delay();
      await sleep(1500);
      await containerd.restart();
      expect(await status('busy')).toBe('RUNNING');
      await works('busy');
      await ctr('task', 'kill', '-s', 'KILL', 'busy');
      await until('the kill to be seen', async () => (await status('busy')) === 'STOPPED');
    });

    it('finds a container whose exec ended meanwhile', async () => {
      await run('busy', 'sleep', '1000');
      await ctr('task', 'exec', '-d', '--exec-id', 'side', 'busy', 'sleep', '1');
      await crash(1500);
      expect(await status('busy')).toBe('RUNNING');
      expect((await ctr('task', 'ps', 'busy')).stdout.trim().split('\n')).toHaveLength(2);
      await works('busy');
    });

    it('boots at once beside a shim whose runc hangs in Delete (13848)', async () => {
      await run('stuck', 'true');
      await run('other', 'sleep', '1000');
      await until('the end', async () => (await status('stuck')) === 'STOPPED');
      delay('delete', 600);
      begin('task', 'rm', 'stuck');
      await until('runc delete', () => processes().some(({ command }) => command === 'sleep 600'));
      await containerd.kill();
      const boots = byPeer(peer, {
        why: 'the open issue: containerd itself waits without a deadline for the Delete of a shim that seems leaked',
        stock17: false,
        stock2: false,
        thaw: true,
      });
      if (boots) await containerd.restart();
      // It boots in a second where nothing hangs.
      else
        await expect(containerd.restart(8_000)).rejects.toThrow(/Waited \d+ ms for containerd to be ready/);
      delay();
      // Ends what hangs, as a disk that recovers would.
      for (const { pid: hung, command } of processes()) if (command === 'sleep 600') kill(hung);
      if (!boots) await containerd.restart();
      expect(await status('other')).toBe('RUNNING');
      await until('the rest to be deleted', async () => {
        await ctr('task', 'rm', '-f', 'stuck');
        return (await status('stuck')) === undefined;
      });
    });

    it('cleans up after a shim that was killed, and says so once', async () => {
      const log = join(directory, 'events');
      const listener = await listen(log);
      await run('orphan', 'sleep', '1000');
      kill(shimOf('orphan'));
      await until('the container to be gone', async () => (await status('orphan')) === undefined);
      await until('the delete event', () => /tasks\/delete .*orphan/.test(readFileSync(log, 'utf8')));
      await listener.stop();
      const lines = readFileSync(log, 'utf8')
        .split('\n')
        .filter((line) => line.includes('orphan'));
      expect(lines.filter((line) => line.includes('/tasks/exit'))).toHaveLength(1);
      expect(lines.find((line) => line.includes('/tasks/exit'))).toMatch(/"exit_status": ?137/);
      await ctr('container', 'rm', 'orphan');
      expect(
        (await ctr('run', '--rm', '--runtime', peer.runtime, IMAGE, 'orphan', 'echo', 'again')).stdout,
      ).toBe('again\n');
    });

    it('cleans up after a shim that was killed while containerd was away', async () => {
      await run('orphan', 'sleep', '1000');
      const shim = shimOf('orphan');
      await containerd.kill();
      kill(shim);
      await containerd.restart();
      await until('the container to be gone', async () => (await status('orphan')) === undefined);
    });

    it('cleans up all containers of a pod whose shim was killed', async () => {
      const group = ['--annotation', 'io.containerd.runc.v2.group=team'];
      for (const id of ['one', 'two', 'three'])
        await ctr('run', '--runtime', peer.runtime, ...group, '-d', '--null-io', IMAGE, id, 'sleep', '1000');
      expect(shims()).toHaveLength(1);
      kill(shims()[0]?.pid ?? 0);
      await until('all to be gone', async () => (await ctr('task', 'ls', '-q')).stdout === '');
    });

    it('tells of every exit once (4769)', async () => {
      const log = join(directory, 'once');
      const listener = await listen(log);
      for (let i = 0; i < 5; i += 1)
        expect(
          (await ctr('run', '--rm', '--runtime', peer.runtime, IMAGE, `once-${i}`, 'sh', '-c', `exit ${i}`))
            .code,
        ).toBe(i);
      const topics = (id: string) =>
        readFileSync(log, 'utf8')
          .split('\n')
          .flatMap((line) => (line.includes(`"${id}"`) ? (/\/tasks\/\S+/.exec(line) ?? []) : []));
      await until('the last events', () => topics('once-4').includes('/tasks/exit'));
      await sleep(300);
      await listener.stop();
      for (let i = 0; i < 5; i += 1) {
        const [create, start, exit, ...others] = topics(`once-${i}`);
        expect([create, start, exit]).toEqual(['/tasks/create', '/tasks/start', '/tasks/exit']);
        // containerd's own shim may end before its last event has left.
        expect([[], ['/tasks/delete']]).toContainEqual(others);
      }
    });
  });
}
