/** The connection itself: frames, streams, deadlines, services, peers. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { containerd as api } from '../../../proto/gen/shim.js';
import { Code } from '../../../proto/status.ts';
import { encodeFrame, FrameType } from '../../../proto/ttrpc/frame.ts';
import { encodeRequest } from '../../../proto/ttrpc/message.ts';
import { run } from '../../lib/index.ts';
import { processSpec } from './bundle.ts';
import { fails } from './expect.ts';
import { byPeer, type PeerName } from './peer.ts';
import { RawConnection } from './raw-connection.ts';
import type { Task } from './rig.ts';
import { withRig } from './with-rig.ts';

const { ConnectRequest, StateRequest, WaitRequest } = api.task.v2;

export function protocolCases(name: PeerName): void {
  describe('protocol', () => {
    const at = withRig(name);
    let task: Task;
    let raw: RawConnection;
    beforeEach(async () => {
      task = await at.rig.run();
      raw = new RawConnection(task.address.path);
    });
    afterEach(() => raw.close());

    const connect = () => ConnectRequest.encode({ id: task.id }).finish();
    const works = async (stream: number) => {
      raw.request(stream, task.client.service, 'Connect', connect());
      expect(await raw.answer(stream)).toMatchObject({ code: 0 });
    };

    it('says Unimplemented of a method and of a service that it does not have', async () => {
      await fails(task.client.call('NoSuchMethod', new Uint8Array()), Code.unimplemented, /NoSuchMethod/);
      await fails(
        task.client.call('State', new Uint8Array(), 5000, 'no.such.Service'),
        Code.unimplemented,
        /no\.such\.Service/,
      );
    });

    it('has the task service by the names of the releases it is for', async () => {
      const services = byPeer(at.peer, {
        why: 'containerd 1.7 knows v2; 2.x dials v3 and goes back to v2 on Unimplemented',
        stock17: ['containerd.task.v2.Task'],
        stock2: ['containerd.task.v3.Task'],
        thaw: ['containerd.task.v2.Task', 'containerd.task.v3.Task'],
      });
      for (const service of services)
        expect(await task.client.about(task.id, service).status()).toBe('RUNNING');
    });

    it('refuses streams that are even, or not after the last', async () => {
      raw.request(2, task.client.service, 'Connect', connect());
      expect(await raw.answer(2)).toMatchObject({ code: Code.invalidArgument });
      await works(3);
      raw.request(3, task.client.service, 'Connect', connect());
      expect(await raw.answer(3)).toMatchObject({ code: Code.invalidArgument });
      await works(5);
    });

    it('ignores frames of a type that it does not know', async () => {
      raw.send(1, 99, Buffer.from('what'));
      raw.send(1, FrameType.response, Buffer.from('what'));
      await works(3);
    });

    it('answers a request that is no protobuf, and goes on', async () => {
      raw.send(1, FrameType.request, Buffer.from([0xff, 0xff, 0xff]));
      expect(await raw.answer(1)).toMatchObject({ code: Code.invalidArgument });
      await works(3);
    });

    it('answers a message that is no protobuf, and goes on', async () => {
      raw.request(1, task.client.service, 'State', Buffer.from([0xff, 0xff, 0xff]));
      expect((await raw.answer(1)).code).not.toBe(0);
      await works(3);
    });

    it('refuses a frame of more than 4 MiB with ResourceExhausted, and goes on', async () => {
      raw.send(1, FrameType.request, Buffer.alloc((4 << 20) + 1));
      expect(await raw.answer(1)).toMatchObject({ code: Code.resourceExhausted });
      await works(3);
    });

    it('takes a frame that arrives byte by byte', async () => {
      const payload = StateRequest.encode({ id: task.id }).finish();
      const request = encodeRequest({
        service: task.client.service,
        method: 'State',
        payload,
        timeoutMs: undefined,
        metadata: {},
      });
      for (const byte of encodeFrame(1, FrameType.request, 0, request)) {
        raw.write(Buffer.from([byte]));
        await new Promise(setImmediate);
      }
      expect(await raw.answer(1)).toMatchObject({ code: 0 });
    });

    it('answers in any order: a Wait does not hold up what comes after it', async () => {
      raw.request(1, task.client.service, 'Wait', WaitRequest.encode({ id: task.id }).finish());
      await works(3);
      await works(5);
      await task.client.kill(9);
      expect(await raw.answer(1)).toMatchObject({ code: 0 });
    });

    it('keeps to the deadline of a request, and the container does not notice', async () => {
      raw.requestNano(
        1,
        task.client.service,
        'Wait',
        WaitRequest.encode({ id: task.id }).finish(),
        200_000_000,
      );
      const answers = byPeer(at.peer, {
        why: 'the Wait of containerd’s own shim does not look at its deadline',
        stock17: false,
        stock2: false,
        thaw: true,
      });
      if (answers) expect(await raw.answer(1)).toMatchObject({ code: Code.deadlineExceeded });
      else await expect(raw.answer(1, 1500)).rejects.toThrow();
      await works(3);
      expect(await task.client.status()).toBe('RUNNING');
    });

    it('survives clients that go away in the middle of a frame or of a call', async () => {
      for (let i = 0; i < 20; i += 1) {
        const other = new RawConnection(task.address.path);
        if (i % 2 === 0) other.write(Buffer.from([0, 0, 1, 0, 0, 0]));
        else other.request(1, task.client.service, 'Wait', WaitRequest.encode({ id: task.id }).finish());
        await new Promise((resolve) => setTimeout(resolve, 5));
        other.close();
      }
      await works(1);
      expect(await task.client.status()).toBe('RUNNING');
    });

    it('takes a request close to 4 MiB', async () => {
      const spec = { ...processSpec(['true']), annotations: { long: 'x'.repeat(3_900_000) } };
      await task.client.exec('big', spec);
      expect(await task.client.status('big')).toBe('CREATED');
    });

    it('serves several connections', async () => {
      const others = Array.from({ length: 20 }, () => new RawConnection(task.address.path));
      for (const other of others) other.request(1, task.client.service, 'Connect', connect());
      for (const other of others) expect(await other.answer(1)).toMatchObject({ code: 0 });
      for (const other of others) other.close();
    });

    it('refuses a peer of another user, even one who may open the socket', async () => {
      const script = join(at.rig.work, 'peer.mjs');
      mkdirSync(at.rig.work, { recursive: true });
      writeFileSync(
        script,
        `import { connect } from 'node:net';
         const socket = connect({ path: process.argv[2] });
         socket.on('connect', () => socket.write(Buffer.from(process.argv[3], 'hex')));
         socket.on('data', () => { console.log('answered'); process.exit(0); });
         socket.on('error', (e) => { console.log('refused ' + e.code); process.exit(0); });
         socket.on('close', () => { console.log('closed'); process.exit(0); });`,
      );
      const rights = '+dac_override,+dac_read_search';
      const setpriv = ['--reuid', '65534', '--clear-groups', '--inh-caps', rights, '--ambient-caps', rights];
      // The folder of the script is root's own: the rights above open it too.
      const { stdout } = await run(
        'setpriv',
        [...setpriv, 'node', script, task.address.path, '00000000000000010100'],
        { timeoutMs: 10_000, allowFailure: true },
      );
      expect(stdout).toMatch(/closed|refused/);
      expect(stdout).not.toContain('answered');
    });
  });
}
