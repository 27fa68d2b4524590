/** The program's own face: `start`, `delete`, `-v`, `-info`, and what the server looks like from outside. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { containerd as api, google } from '../../../proto/gen/shim.js';
import { until } from '../../lib/index.ts';
import { byPeer, type PeerName } from './peer.ts';
import { alive, NAMESPACE } from './rig.ts';
import { deleteShim, parseAddress, runShim, startOutput } from './shim-program.ts';
import { runcOptions, TaskClient } from './task-client.ts';
import { withRig } from './with-rig.ts';

export function bootstrapCases(name: PeerName): void {
  describe('bootstrap', () => {
    const at = withRig(name);

    it('prints its version', async () => {
      const { stdout } = await runShim(at.peer.program, ['-v'], {});
      expect(stdout.toString()).toMatch(/^\S*containerd-shim-(runc|thaw)-v2:\n {2}Version: {2}\S+\n/);
    });

    it('says what it is and what its runc can do', async () => {
      const { code, stdout } = await runShim(at.peer.program, ['-info'], {});
      const has = byPeer(at.peer, {
        why: 'the shim of 1.7.24 has no such flag; containerd 2.2 asks for it at every create',
        stock17: false,
        stock2: true,
        thaw: true,
      });
      expect(code === 0).toBe(has);
      if (!has) return;
      const info = api.types.RuntimeInfo.decode(stdout);
      expect(info.name).toMatch(/^io\.containerd\.runc\./);
      expect(info.features?.type_url).toContain('Features');
      expect(JSON.parse(Buffer.from(info.features?.value ?? []).toString())).toHaveProperty('ociVersionMin');
    });

    it('refuses flags that it does not know, and a container without a namespace', async () => {
      expect((await runShim(at.peer.program, ['-nonsense', 'start'], {})).code).not.toBe(0);
      const { bundle } = at.rig.bundle({ id: 'nameless' });
      const { code, stderr } = await runShim(at.peer.program, ['-id', 'nameless', 'start'], { cwd: bundle });
      expect(code).not.toBe(0);
      expect(stderr).toMatch(/namespace/);
      rmSync(bundle, { recursive: true });
    });

    it('listens where every shim of that name would, for root alone', async () => {
      const task = await at.rig.prepare();
      const hash = createHash('sha256')
        .update(join(at.rig.daemon.address, NAMESPACE, task.id))
        .digest('hex');
      expect(task.address.path).toBe(`/run/containerd/s/${hash}`);
      expect(statSync(task.address.path).mode & 0o777).toBe(0o600);
    });

    it('answers with nothing but the address', async () => {
      const call = at.rig.bundle();
      const { stdout, stderr } = await startOutput(call);
      const version = byPeer(at.peer, {
        why: 'a plain address is understood by every containerd; version 3 only by 2.x, which then starts a pod’s shim once',
        stock17: 2,
        stock2: 3,
        thaw: 2,
      });
      const address = parseAddress(stdout.toString());
      expect(address.version).toBe(version);
      // containerd 1.6 takes whatever comes on either output for the address.
      expect(stderr).toBe('');
      const client = await TaskClient.connect(address.path, at.rig.service(address), call.id);
      await client.shutdown().catch(() => {});
      client.close();
      await until('its end', () => !existsSync(address.path));
      rmSync(call.bundle, { recursive: true });
    });

    it('answers the same for a container whose server runs', async () => {
      const task = await at.rig.run();
      expect(parseAddress((await startOutput(task.invocation)).stdout.toString())).toEqual(task.address);
      expect((await task.client.connect()).shimPid).toBe(task.shimPid);
    });

    it('leaves a server that belongs to nobody: its own process group, in the bundle, without the caller’s streams', async () => {
      const task = await at.rig.prepare();
      const stat = readFileSync(`/proc/${task.shimPid}/stat`, 'utf8');
      const [, parent, group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      expect(parent).toBe('1');
      expect(group).toBe(String(task.shimPid));
      expect(readlinkSync(`/proc/${task.shimPid}/cwd`)).toBe(task.bundle);
      expect(readlinkSync(`/proc/${task.shimPid}/fd/0`)).toBe('/dev/null');
      const args = readFileSync(`/proc/${task.shimPid}/cmdline`, 'utf8').split('\0');
      for (const word of ['-namespace', NAMESPACE, '-id', task.id, '-address', at.rig.daemon.address])
        expect(args).toContain(word);
    });

    it('is ended by the kernel before containerd is', async () => {
      const task = await at.rig.prepare();
      const score = (of: number) => Number(readFileSync(`/proc/${of}/oom_score_adj`, 'utf8'));
      expect(score(task.shimPid)).toBe(Math.min(score(process.pid) + 1, 1000));
    });

    it('puts the server into the cgroup that the options name', async () => {
      const hierarchies = readdirSync('/sys/fs/cgroup').map((entry) => `/sys/fs/cgroup/${entry}/shims`);
      for (const directory of hierarchies) {
        mkdirSync(directory, { recursive: true });
        const parent = directory.replace('/shims', '');
        // A new v1 cpuset takes no process before it has processors and memory.
        for (const file of ['cpuset.cpus', 'cpuset.mems'])
          if (existsSync(`${directory}/${file}`)) {
            writeFileSync(`${directory}/${file}`, readFileSync(`${parent}/${file}`));
          }
      }
      const startInput = google.protobuf.Any.encode(runcOptions({ shimCgroup: '/shims' })).finish();
      const task = await at.rig.prepare({ startInput });
      const lines = readFileSync(`/proc/${task.shimPid}/cgroup`, 'utf8')
        .split('\n')
        .filter((line) => /:(memory|pids|cpu[^s]*):/.test(line));
      expect(lines.length).toBeGreaterThan(0);
      for (const line of lines) expect(line).toMatch(/:\/shims$/);
      await task.discard();
      for (const directory of hierarchies)
        await until('the cgroup to be empty', () => {
          if (existsSync(directory)) rmdirSync(directory);
          return true;
        });
    });

    it('serves while nobody reads its log', async () => {
      const call = at.rig.bundle();
      const serves = byPeer(at.peer, {
        why: 'containerd’s own shim opens its log for writing and waits for a reader, who died with containerd',
        stock17: false,
        stock2: false,
        thaw: true,
      });
      // Without the rig's reader: another fifo in its place.
      rmSync(join(call.bundle, 'log'));
      execFileSync('mkfifo', [join(call.bundle, 'log')]);
      const address = parseAddress((await startOutput(call)).stdout.toString());
      const client = await TaskClient.connect(address.path, at.rig.service(address), call.id);
      const answered = await client
        .call('Connect', api.task.v2.ConnectRequest.encode({ id: call.id }).finish(), 3000)
        .then(
          () => true,
          () => false,
        );
      expect(answered).toBe(serves);
      const reader = openSync(join(call.bundle, 'log'), constants.O_RDONLY | constants.O_NONBLOCK);
      await client.shutdown().catch(() => {});
      client.close();
      await until('its end', () => !existsSync(address.path));
      closeSync(reader);
      rmSync(call.bundle, { recursive: true });
    });

    it('deletes a container whose server was killed: process, mount, runc’s state', async () => {
      const task = await at.rig.run({ hostPid: true, args: ['sh', '-c', '(sleep 1000 &); sleep 1000'] });
      await task.exec('side', ['sleep', '1000']);
      await task.killShim();
      expect(alive(task.pid)).toBe(true);
      const { response } = await deleteShim(task.invocation);
      expect(response).toMatchObject({ pid: task.pid, exitStatus: 137 });
      expect(Math.abs(Number(response.exitedAt?.seconds ?? 0) - Date.now() / 1000)).toBeLessThan(10);
      // containerd kills it after five seconds.
      await until('the process to end', () => !alive(task.pid));
      expect(readdirSync(join(task.bundle, 'rootfs'))).toEqual([]);
      expect(existsSync(`/run/containerd/runc/${NAMESPACE}/${task.id}`)).toBe(false);
    });

    it('deletes twice, and finds the bundle beside the one it is run in', async () => {
      const task = await at.rig.run();
      const other = await at.rig.run();
      await task.killShim();
      const args = [
        '-namespace',
        NAMESPACE,
        '-address',
        at.rig.daemon.address,
        '-publish-binary',
        '/x',
        '-id',
        task.id,
        'delete',
      ];
      for (let i = 0; i < 2; i += 1) {
        const { code, stdout } = await runShim(at.peer.program, args, {
          cwd: other.bundle,
          env: { TTRPC_ADDRESS: at.rig.daemon.ttrpcAddress },
        });
        expect(code).toBe(0);
        expect(api.task.v2.DeleteResponse.decode(stdout).exitStatus).toBe(137);
      }
      expect(alive(task.pid)).toBe(false);
      expect(alive(other.pid)).toBe(true);
    });

    // containerd 2.3's own shim starts under nothing older, so there is none here to compare with.
    if (name === 'thaw')
      it('takes the parameters of containerd 2.3 from standard input, and its folder for sockets', async () => {
        const socketDir = join(at.rig.state, 's');
        const { BootstrapParams } = api.runtime.bootstrap.v1;
        const startInput = BootstrapParams.encode({
          instanceId: 'boot',
          namespace: NAMESPACE,
          logLevel: -4,
          containerdVersion: '2.3.0',
          containerdTtrpcAddress: at.rig.daemon.ttrpcAddress,
          containerdGrpcAddress: at.rig.daemon.address,
          containerdBinary: '/usr/bin/containerd',
          extensions: [{ value: runcOptions({ root: '/run/other-runc' }) }],
          socketDir,
        }).finish();
        const task = await at.rig.run({ id: 'boot', args: ['true'], startInput });
        expect(task.address.path.startsWith(`${socketDir}/`)).toBe(true);
        expect(await task.client.wait()).toBe(0);
        await task.client.delete();
        await task.shutdown();
      });
  });
}
