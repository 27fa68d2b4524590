/** Every form of standard streams without a terminal: none, fifos, files, log programs. */
import { chmodSync, existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Code } from '../../../proto/status.ts';
import { sleep, until } from '../../lib/index.ts';
import { fails } from './expect.ts';
import { byPeer, type PeerName } from './peer.ts';
import { Streams } from './streams.ts';
import { runcOptions } from './task-client.ts';
import { withRig } from './with-rig.ts';

export function stdioCases(name: PeerName): void {
  describe('stdio', () => {
    const at = withRig(name);
    const streams = (...names: ('stdin' | 'stdout' | 'stderr')[]) =>
      new Streams(
        at.rig.state,
        `s${Math.random().toString(36).slice(2)}`,
        names.length > 0 ? names : undefined,
      );

    it('gives a process without streams empty ones', async () => {
      const task = await at.rig.run(['sh', '-c', 'cat; echo lost; ls -l /proc/self/fd >/fds; exit 5']);
      expect(await task.client.wait()).toBe(5);
      const fds = readFileSync(join(at.rig.upper(task.id), 'fds'), 'utf8');
      expect(fds).toMatch(/ 0 -> \/dev\/null\n/);
    });

    it('carries both outputs to fifos and ends them', async () => {
      const io = streams('stdout', 'stderr');
      const out = io.read('stdout');
      const err = io.read('stderr');
      const task = await at.rig.run({ args: ['sh', '-c', 'echo out; echo err >&2'], stdio: io.paths });
      expect(await task.client.state()).toMatchObject({ ...io.paths, stdin: '' });
      await task.client.wait();
      await task.client.delete();
      expect([await out.all(), await err.all()]).toEqual(['out\n', 'err\n']);
      io.close();
    });

    it('takes one output alone', async () => {
      const io = streams('stderr');
      const err = io.read('stderr');
      const task = await at.rig.prepare({
        args: ['sh', '-c', 'echo out; echo err >&2'],
        stdio: io.paths,
      });
      const works = byPeer(at.peer, {
        why: 'containerd’s own shim opens a fifo without a name; its clients always give both',
        stock17: false,
        stock2: false,
        thaw: true,
      });
      if (!works) {
        await expect(task.create()).rejects.toThrow(/opening file "" failed/);
        io.close();
        return;
      }
      await task.create();
      await task.start();
      await task.client.wait();
      await task.client.delete();
      expect(await err.all()).toBe('err\n');
      io.close();
    });

    it('carries large output whole, and all of it before the exit is deleted', async () => {
      const io = streams('stdout', 'stderr');
      const out = io.read('stdout');
      io.read('stderr');
      const script = 'head -c 8000000 /dev/zero; echo end';
      const task = await at.rig.run({ args: ['sh', '-c', script], stdio: io.paths });
      await task.client.wait();
      await task.client.delete();
      await until('the end', () => out.ended);
      expect(out.length).toBe(8_000_004);
      io.close();
    });

    it('holds a process back whose output nobody reads, and keeps what it wrote', async () => {
      const io = streams('stdout', 'stderr');
      // containerd's own shim creates nothing until both fifos have a reader.
      io.hold('stdout');
      io.read('stderr');
      const script = 'head -c 1000000 /dev/zero; echo x >/wrote';
      const task = await at.rig.run({ args: ['sh', '-c', script], stdio: io.paths });
      await sleep(300);
      expect(existsSync(join(at.rig.upper(task.id), 'wrote'))).toBe(false);
      const out = io.read('stdout');
      await task.client.wait();
      await task.client.delete();
      await until('the end', () => out.ended);
      expect(out.length).toBe(1_000_000);
      io.close();
    });

    it('does not break the pipe of a process whose reader went away, and serves a later one', async () => {
      const io = streams('stdout', 'stderr');
      const first = io.read('stdout');
      io.read('stderr');
      const script = 'while :; do echo tick || exit 9; sleep 0.05; done';
      const task = await at.rig.run({ args: ['sh', '-c', script], stdio: io.paths });
      await first.until(/tick/);
      first.close();
      await sleep(300);
      expect(await task.client.status()).toBe('RUNNING');
      const second = io.read('stdout');
      await second.until(/tick/);
      expect(await task.client.status()).toBe('RUNNING');
      io.close();
    });

    it('carries input, which ends when the client and CloseIO both ended it', async () => {
      const io = streams();
      const out = io.read('stdout');
      io.read('stderr');
      const task = await at.rig.run({ args: ['cat'], stdio: io.paths });
      await io.write('one\n');
      await out.until(/one/);
      io.closeInput();
      await sleep(200);
      expect(await task.client.status()).toBe('RUNNING');
      await io.write('two\n');
      await out.until(/two/);
      await task.client.closeIo();
      await sleep(200);
      expect(await task.client.status()).toBe('RUNNING');
      io.closeInput();
      expect(await task.client.wait()).toBe(0);
      await task.client.delete();
      expect(await out.all()).toBe('one\ntwo\n');
      io.close();
    });

    it('answers CloseIO where there is no input, and twice', async () => {
      const task = await at.rig.run();
      await task.client.closeIo();
      await task.client.closeIo();
      await task.client.closeIo('', false);
      expect(await task.client.status()).toBe('RUNNING');
    });

    it('appends both outputs to the file that file:// names, and makes its folders', async () => {
      const path = join(at.rig.work, 'deep', 'er', 'log');
      const stdio = { stdout: `file://${path}`, stderr: `file://${path}` };
      for (const word of ['one', 'two']) {
        const task = await at.rig.run({ args: ['sh', '-c', `echo ${word}; echo ${word} >&2`], stdio });
        await task.client.wait();
        await task.client.delete();
      }
      expect(readFileSync(path, 'utf8')).toBe('one\none\ntwo\ntwo\n');
    });

    it('refuses a scheme that nobody knows', async () => {
      const task = await at.rig.prepare({ stdio: { stdout: 'pigeon:///x', stderr: 'pigeon:///x' } });
      const code = byPeer(at.peer, {
        why: 'a plain error in Go',
        stock17: Code.unknown,
        stock2: Code.unknown,
        thaw: Code.invalidArgument,
      });
      await fails(task.create(), code, /unknown STDIO scheme pigeon/);
    });

    it('fails to create where a fifo is not there', async () => {
      const task = await at.rig.prepare({ stdio: { stdout: '/run/no-such-fifo' } });
      await expect(task.create()).rejects.toThrow(/no-such-fifo/);
    });

    it('gives the process pipes of the group that the options name (runc makes the process’s user their owner)', async () => {
      const options = runcOptions({ ioUid: 1234, ioGid: 567 });
      const io = streams();
      const out = io.read('stdout');
      io.read('stderr');
      const args = ['sh', '-c', 'stat -L -c %u:%g /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2'];
      const task = await at.rig.run({ args, stdio: io.paths, create: { options } });
      await task.client.wait();
      await task.client.delete();
      expect(await out.all()).toBe('0:567\n'.repeat(3));
      io.close();
    });

    it('closes all its ends when the container is deleted', async () => {
      const first = await at.rig.run({ annotations: { 'io.containerd.runc.v2.group': 'fds' } });
      const fds = () =>
        readdirSync(`/proc/${first.shimPid}/fd`).flatMap((fd) => {
          try {
            return [readlinkSync(`/proc/${first.shimPid}/fd/${fd}`)];
          } catch {
            return [];
          }
        });
      const io = streams();
      const out = io.read('stdout');
      io.read('stderr');
      const second = await at.rig.run({
        args: ['echo', 'x'],
        stdio: io.paths,
        annotations: { 'io.containerd.runc.v2.group': 'fds' },
      });
      await second.client.wait();
      await second.client.delete();
      await out.all();
      await until(
        `its fifos to be closed among ${fds()}`,
        () => !fds().some((target) => Object.values(io.paths).includes(target)),
      );
      io.close();
    });

    describe('of a log program', () => {
      /** A program that notes its environment and arguments, says that it is ready, and copies stdout and stderr. */
      const logger = (body = '') => {
        const program = join(at.rig.work, 'logger');
        const copy = `(sed 's/^/out /' <&3 >>"$2" & sed 's/^/err /' <&4 >>"$2" & wait)`;
        writeFileSync(
          program,
          `#!/bin/sh\necho "$CONTAINER_ID $CONTAINER_NAMESPACE $*" >"$2.args"\nenv >"$2.env"\n${body || `exec 5>&-\n${copy}`}\n`,
        );
        chmodSync(program, 0o755);
        return program;
      };

      it('runs the program that binary:// names, with both outputs', async () => {
        const file = join(at.rig.work, 'logged');
        const uri = `binary://${logger()}?file=${file}`;
        const task = await at.rig.run({
          args: ['sh', '-c', 'echo a; echo b >&2'],
          stdio: { stdout: uri, stderr: uri },
        });
        await task.client.wait();
        await task.client.delete();
        await until('the log', () => readFileSync(file, 'utf8').split('\n').length > 2);
        expect(readFileSync(file, 'utf8').split('\n').sort()).toEqual(['', 'err b', 'out a']);
        expect(readFileSync(`${file}.args`, 'utf8')).toBe(`${task.id} default file ${file}\n`);
        expect(readFileSync(`${file}.env`, 'utf8')).not.toContain('TTRPC_ADDRESS');
      });

      it('says that a log program is not there', async () => {
        const uri = 'binary:///no/such/logger';
        const task = await at.rig.prepare({ stdio: { stdout: uri, stderr: uri } });
        await expect(task.create()).rejects.toThrow(/no such file|not found|no\/such\/logger/i);
      });

      it('ends a log program that goes on when its container is deleted', async () => {
        const file = join(at.rig.work, 'logged');
        const uri = `binary://${logger('exec 5>&-; exec sleep 1000')}?file=${file}`;
        const task = await at.rig.run({ args: ['true'], stdio: { stdout: uri, stderr: uri } });
        await task.client.wait();
        await task.client.delete('', 20_000);
        // What is left is seen when the rig closes.
      });
    });
  });
}
