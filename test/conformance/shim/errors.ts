/** What each call answers where it cannot do what it is asked. Codes and texts are those that containerd's tests and clients look at. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Code } from '../../../proto/status.ts';
import { processSpec } from './bundle.ts';
import { fails } from './expect.ts';
import { byPeer, type Peer, type PeerName } from './peer.ts';
import { type Any, runcOptions, type TaskClient } from './task-client.ts';
import { withRig } from './with-rig.ts';

/** What containerd's own shim answers with an error of no class has a class here. */
const classed = (peer: Peer, code: Code): Code =>
  byPeer(peer, {
    why: 'Go’s errors.New has no code',
    stock17: Code.unknown,
    stock2: Code.unknown,
    thaw: code,
  });

const onContainer: Record<string, (client: TaskClient) => Promise<unknown>> = {
  State: (client) => client.state(),
  Start: (client) => client.start(),
  Delete: (client) => client.delete(),
  Pids: (client) => client.pids(),
  Pause: (client) => client.pause(),
  Resume: (client) => client.resume(),
  Checkpoint: (client) => client.checkpoint('/run/no-such-image'),
  Kill: (client) => client.kill(9),
  Exec: (client) => client.exec('e', processSpec(['true'])),
  ResizePty: (client) => client.resizePty(80, 25),
  CloseIO: (client) => client.closeIo(),
  Update: (client) => client.update({}),
  Wait: (client) => client.wait(),
  Stats: (client) => client.stats(),
};

const onExec: Record<string, (client: TaskClient) => Promise<unknown>> = {
  State: (client) => client.state('none'),
  Start: (client) => client.start('none'),
  Delete: (client) => client.delete('none'),
  Kill: (client) => client.kill(9, { execId: 'none' }),
  ResizePty: (client) => client.resizePty(80, 25, 'none'),
  CloseIO: (client) => client.closeIo('none'),
  Wait: (client) => client.wait('none'),
};

export function errorCases(name: PeerName): void {
  describe('errors', () => {
    const at = withRig(name);

    it('are NotFound from every call about a container that was not created', async () => {
      const task = await at.rig.prepare();
      for (const call of Object.values(onContainer))
        await fails(call(task.client), Code.notFound, /container not created/);
    });

    it('are NotFound from every call about a container that was deleted', async () => {
      const task = await at.rig.run(['true']);
      await task.client.wait();
      await task.client.delete();
      for (const call of Object.values(onContainer)) await fails(call(task.client), Code.notFound);
    });

    it('are NotFound from every call about an exec that is not there', async () => {
      const task = await at.rig.run();
      for (const call of Object.values(onExec)) {
        if (at.peer.name === 'thaw')
          await fails(call(task.client), Code.notFound, /process does not exist none/);
        // containerd's own shim loses the code of some of them on the way.
        else await expect(call(task.client)).rejects.toThrow(/process does not exist none: not found/);
      }
    });

    it('name the program that a container lacks, and the container is not there', async () => {
      const task = await at.rig.prepare({ args: ['no-such-program'] });
      await fails(task.create(), Code.unknown, /^OCI runtime create failed: .*no-such-program.*not found/);
      await fails(task.client.state(), Code.notFound);
      expect(task.events).toEqual([]);
      await task.client.shutdown().catch(() => {});
    });

    it('come from a bundle without a configuration', async () => {
      const task = await at.rig.prepare();
      await expect(task.create({ bundle: '/run/no-such-bundle' })).rejects.toThrow(/no-such-bundle/);
      await fails(task.client.state(), Code.notFound);
    });

    it('come from a root file system that cannot be mounted, and nothing stays mounted', async () => {
      const task = await at.rig.prepare();
      const good = at.rig.overlay(task.id);
      const rootfs = [...good, { type: 'no-such-fs', source: 'none', options: [] }];
      await expect(task.create({ rootfs })).rejects.toThrow(/no such device|ENODEV|no-such-fs/i);
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(task.bundle);
    });

    it('come from Create of a container that is there, which goes on', async () => {
      const task = await at.rig.run();
      await fails(task.create(), classed(at.peer, Code.alreadyExists), /exist/);
      expect(await task.client.status()).toBe('RUNNING');
    });

    it('come from Start of what runs or has ended', async () => {
      const task = await at.rig.run(['sh', '-c', 'sleep 0.5']);
      await fails(task.client.start(), classed(at.peer, Code.failedPrecondition), /cannot start a running/);
      await task.client.wait();
      await fails(task.client.start(), classed(at.peer, Code.failedPrecondition), /cannot start a stopped/);
    });

    it('come from Delete of what runs or is paused', async () => {
      const task = await at.rig.run();
      await fails(task.client.delete(), Code.unknown, /cannot delete a running process/);
      await task.client.pause();
      await fails(task.client.delete(), Code.unknown, /cannot delete a paused process/);
      expect(await task.client.status()).toBe('PAUSED');
      await task.client.resume();
    });

    it('come from Pause and Resume in the wrong state', async () => {
      const code = classed(at.peer, Code.failedPrecondition);
      const task = await at.rig.create();
      await fails(task.client.pause(), code, /cannot pause/);
      await fails(task.client.resume(), code, /cannot resume/);
      await task.start();
      await fails(task.client.resume(), code, /cannot resume a running/);
      await task.client.pause();
      await fails(task.client.pause(), code, /cannot pause a paused/);
      await task.client.resume();
      await task.client.kill(9);
      await task.client.wait();
      await fails(task.client.pause(), code, /cannot pause a stopped/);
      await fails(task.client.resume(), code, /cannot resume a stopped/);
    });

    it('come from Kill of what has ended', async () => {
      const task = await at.rig.run(['true']);
      await task.client.wait();
      await fails(task.client.kill(9), Code.notFound, /process already finished|no such process|not found/);
      await fails(task.client.kill(0), Code.notFound);
    });

    it('come from a signal that is none', async () => {
      const task = await at.rig.run();
      await expect(task.client.kill(200)).rejects.toThrow(/invalid argument|signal/i);
      expect(await task.client.status()).toBe('RUNNING');
    });

    it('come from Checkpoint of what does not run', async () => {
      const code = classed(at.peer, Code.failedPrecondition);
      const task = await at.rig.create();
      await fails(task.client.checkpoint(join(at.rig.work, 'image')), code, /cannot checkpoint/);
      await task.start();
      await task.client.kill(9);
      await task.client.wait();
      await fails(task.client.checkpoint(join(at.rig.work, 'image')), code, /cannot checkpoint a stopped/);
    });

    it('come from Update with what is no JSON or no limit, and nothing changes', async () => {
      const task = await at.rig.run();
      const limit = () =>
        readFileSync(`/sys/fs/cgroup/memory/default/${task.id}/memory.limit_in_bytes`, 'utf8');
      const before = limit();
      await expect(task.client.update('no object' as unknown as object)).rejects.toThrow();
      await expect(task.client.update({ memory: { limit: 'much' } })).rejects.toThrow();
      expect(limit()).toBe(before);
      expect(await task.client.status()).toBe('RUNNING');
    });

    it('come from Stats of a cgroup that is gone', async () => {
      const task = await at.rig.run(['true']);
      await task.client.wait();
      await task.client.delete();
      await fails(task.client.stats(), Code.notFound);
    });

    it('are InvalidArgument for options that cannot be decoded', async () => {
      const task = await at.rig.prepare();
      const options: Any = { type_url: 'containerd.runc.v1.Options', value: Buffer.from([0xff, 0xff, 0xff]) };
      await expect(task.create({ options })).rejects.toThrow();
      await fails(task.client.state(), Code.notFound);
    });

    it('name a runc that is not there', async () => {
      const binary = '/no/such/runc';
      const task = await at.rig.prepare();
      await expect(task.create({ options: runcOptions({ binaryName: binary }) })).rejects.toThrow(
        /no\/such\/runc|no such file/,
      );
    });

    it('leave a failed container’s bundle for `delete` to remove', async () => {
      const task = await at.rig.prepare({ args: ['no-such-program'] });
      await expect(task.create()).rejects.toThrow();
      writeFileSync(join(task.bundle, 'mine'), '');
      await task.discard();
    });
  });
}
