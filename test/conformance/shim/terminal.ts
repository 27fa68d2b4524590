/** Processes with a terminal. */
import { describe, expect, it } from 'vitest';
import { sleep } from '../../lib/index.ts';
import type { PeerName } from './peer.ts';
import { Streams } from './streams.ts';
import { withRig } from './with-rig.ts';

export function terminalCases(name: PeerName): void {
  describe('terminal', () => {
    const at = withRig(name);
    const streams = (id: string) => new Streams(at.rig.state, id, ['stdin', 'stdout']);

    it('is the process’s own: it sees one, echoes, and ends with it', async () => {
      const io = streams('tty');
      const out = io.read('stdout');
      const script =
        'test -t 0 && test -t 1 && test -t 2 && echo is-tty; read line; echo "got $line"; exit 6';
      const task = await at.rig.run({
        args: ['sh', '-c', script],
        terminal: true,
        stdio: { ...io.paths, terminal: true },
      });
      await out.until(/is-tty\r\n/);
      expect(await task.client.state()).toMatchObject({ terminal: true, status: 'RUNNING' });
      await io.write('hello\n');
      await out.until(/hello\r\ngot hello\r\n/);
      expect(await task.client.wait()).toBe(6);
      await task.client.delete();
      await out.all();
      io.close();
    });

    it('is resized', async () => {
      const io = streams('size');
      const out = io.read('stdout');
      const script = 'trap "busybox stty size" WINCH; echo up; while :; do sleep 0.05; done';
      const task = await at.rig.run({
        args: ['sh', '-c', script],
        terminal: true,
        stdio: { ...io.paths, terminal: true },
      });
      await out.until(/up/);
      await task.client.resizePty(132, 43);
      await out.until(/43 132\r\n/);
      io.close();
    });

    it('has the size that was asked for before the process started', async () => {
      const io = streams('early');
      const out = io.read('stdout');
      const task = await at.rig.create({
        args: ['busybox', 'stty', 'size'],
        terminal: true,
        stdio: { ...io.paths, terminal: true },
      });
      await task.client.resizePty(77, 11);
      await task.start();
      await out.until(/11 77\r\n/);
      expect(await task.client.wait()).toBe(0);
      io.close();
    });

    it('is not needed for a resize to be answered', async () => {
      const task = await at.rig.run();
      await task.client.resizePty(80, 25);
      expect(await task.client.status()).toBe('RUNNING');
    });

    it('passes the interrupt key on', async () => {
      const io = streams('intr');
      const out = io.read('stdout');
      const script = 'trap "echo stopped; exit 5" INT; echo up; while :; do sleep 0.05; done';
      const task = await at.rig.run({
        args: ['sh', '-c', script],
        terminal: true,
        stdio: { ...io.paths, terminal: true },
      });
      await out.until(/up/);
      await io.write('\x03');
      expect(await task.client.wait()).toBe(5);
      await out.until(/stopped/);
      io.close();
    });

    it('is given to an exec', async () => {
      const task = await at.rig.run();
      const io = streams('exec');
      const out = io.read('stdout');
      await task.exec('e', ['sh', '-c', 'test -t 0 && echo is-tty; read line; busybox stty size; exit 4'], {
        ...io.paths,
        terminal: true,
      });
      await out.until(/is-tty\r\n/);
      expect(await task.client.state('e')).toMatchObject({ terminal: true, status: 'RUNNING' });
      await task.client.resizePty(100, 50, 'e');
      await io.write('go\n');
      await out.until(/50 100\r\n/);
      expect(await task.client.wait('e')).toBe(4);
      await task.client.delete('e');
      await out.all();
      io.close();
    });

    it('keeps a process whose client went away, and shows a later one what it writes', async () => {
      const io = streams('again');
      const first = io.read('stdout');
      const script = 'while :; do echo tick || exit 9; sleep 0.05; done';
      const task = await at.rig.run({
        args: ['sh', '-c', script],
        terminal: true,
        stdio: { ...io.paths, terminal: true },
      });
      await first.until(/tick/);
      first.close();
      await sleep(300);
      const second = io.read('stdout');
      await second.until(/tick/);
      expect(await task.client.status()).toBe('RUNNING');
      io.close();
    });

    it('carries large output whole', async () => {
      const io = streams('large');
      const out = io.read('stdout');
      const script = 'busybox stty raw -echo; head -c 3000000 /dev/zero; echo end';
      const task = await at.rig.run({
        args: ['sh', '-c', script],
        terminal: true,
        stdio: { ...io.paths, terminal: true },
      });
      await task.client.wait();
      await task.client.delete();
      await out.all();
      expect(out.length).toBe(3_000_004);
      io.close();
    });
  });
}
