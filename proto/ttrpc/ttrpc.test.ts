import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Code } from '../status.ts';
import { TtrpcClient } from './client.ts';
import { encodeFrame, FrameDecoder, HEADER_LENGTH, MAX_DATA_LENGTH } from './frame.ts';
import { decodeRequest, decodeResponse, encodeRequest, encodeResponse } from './message.ts';
import { type CallContext, type Services, TtrpcServer } from './server.ts';
import { TtrpcError } from './status.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const echo: Services = {
  'test.v1.Echo': {
    Echo: async (payload) => payload,
    Fail: async () => {
      throw new TtrpcError(Code.notFound, 'container not created');
    },
    Hang: () => new Promise(() => {}),
  },
};

async function serve(services: Services = echo, authorize?: (socket: Socket) => void): Promise<string> {
  const path = join(tmpdir(), `ttrpc-${randomUUID()}.sock`);
  const server = new TtrpcServer({ services, ...(authorize ? { authorize } : {}) });
  await server.listen({ path });
  cleanups.push(
    () => server.close(),
    () => rmSync(path, { force: true }),
  );
  return path;
}

async function client(path: string): Promise<TtrpcClient> {
  const connected = await TtrpcClient.connect(path, 1000);
  cleanups.push(() => connected.close());
  return connected;
}

function raw(path: string) {
  const socket = connect(path);
  const decoder = new FrameDecoder();
  const answers = new Map<number, ReturnType<typeof decodeResponse>>();
  let wake = () => {};
  socket.on('data', (chunk: Buffer) => {
    for (const frame of decoder.push(chunk))
      if (frame.kind === 'frame') answers.set(frame.stream, decodeResponse(frame.data));
    wake();
  });
  cleanups.push(() => socket.destroy());
  return {
    socket,
    async answer(stream: number) {
      for (;;) {
        const found = answers.get(stream);
        if (found) return found;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

const request = (payload: Uint8Array, method = 'Echo', service = 'test.v1.Echo') =>
  encodeRequest({ service, method, payload, timeoutMs: undefined, metadata: {} });

const hello = Buffer.from('hello');

describe('messages', () => {
  it('have the bytes of the Go implementation', () => {
    const bytes = encodeRequest({
      service: 's',
      method: 'm',
      payload: Buffer.from('p'),
      timeoutMs: 1,
      metadata: { K: ['a', 'b'] },
    });
    expect(Buffer.from(bytes).toString('hex')).toBe(
      '0a01731201' + '6d1a017020c0843d' + '2a060a016b120161' + '2a060a016b120162',
    );
    expect(decodeRequest(bytes)).toMatchObject({ timeoutMs: 1, metadata: { k: ['a', 'b'] } });
  });

  it('keep the answer apart from the status', () => {
    const status = { code: 5, message: 'gone' };
    expect(decodeResponse(encodeResponse({ kind: 'error', status }))).toEqual({ kind: 'error', status });
    expect(decodeResponse(new Uint8Array())).toMatchObject({ kind: 'ok' });
  });
});

describe('server', () => {
  it.each([1, 3, 10, 17])('answers a request that arrives in pieces of %i bytes', async (length) => {
    const { socket, answer } = raw(await serve());
    const bytes = encodeFrame(1, 1, 0, request(hello));
    for (let at = 0; at < bytes.length; at += length) {
      socket.write(bytes.subarray(at, at + length));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await answer(1)).toEqual({ kind: 'ok', payload: hello });
  });

  it('refuses an oversized request on its stream and serves the next', async () => {
    const { socket, answer } = raw(await serve());
    const header = encodeFrame(1, 1, 0, Buffer.alloc(0));
    header.writeUInt32BE(MAX_DATA_LENGTH + 1, 0);
    socket.write(header);
    socket.write(Buffer.alloc(MAX_DATA_LENGTH + 1));
    socket.write(encodeFrame(3, 1, 0, request(hello)));
    expect(await answer(1)).toMatchObject({ kind: 'error', status: { code: Code.resourceExhausted } });
    expect(await answer(3)).toEqual({ kind: 'ok', payload: hello });
  });

  it('that ends answers whoever has just connected, and is not held up by who never asks', async () => {
    const path = join(tmpdir(), `ttrpc-${randomUUID()}.sock`);
    const accepted: Socket[] = [];
    const server = new TtrpcServer({ services: echo, authorize: (socket) => void accepted.push(socket) });
    await server.listen({ path });
    const [asking, silent] = [raw(path), raw(path)];
    await expect.poll(() => accepted.length).toBe(2);
    const closed = server.close(60_000);
    asking.socket.write(encodeFrame(1, 1, 0, request(hello)));
    expect(await asking.answer(1)).toEqual({ kind: 'ok', payload: hello });
    await closed;
    await expect.poll(() => silent.socket.destroyed).toBe(true);
  });

  it('that ends answers what is asked while it answers', async () => {
    const path = join(tmpdir(), `ttrpc-${randomUUID()}.sock`);
    const answers = [Promise.withResolvers<Uint8Array>(), Promise.withResolvers<Uint8Array>()];
    const asked: Uint8Array[] = [];
    const Echo = (payload: Uint8Array) => answers[asked.push(payload) - 1]?.promise ?? Promise.reject();
    const server = new TtrpcServer({ services: { 'test.v1.Echo': { Echo } } });
    await server.listen({ path });
    const { socket, answer } = raw(path);
    socket.write(encodeFrame(1, 1, 0, request(hello)));
    await expect.poll(() => asked.length).toBe(1);
    const closed = server.close(60_000);
    // Time for whoever would look only once.
    await new Promise((resolve) => setTimeout(resolve, 20));
    socket.write(encodeFrame(3, 1, 0, request(hello)));
    await expect.poll(() => asked.length).toBe(2);
    answers[0]?.resolve(hello);
    expect(await answer(1)).toEqual({ kind: 'ok', payload: hello });
    await new Promise((resolve) => setTimeout(resolve, 20));
    answers[1]?.resolve(hello);
    expect(await answer(3)).toEqual({ kind: 'ok', payload: hello });
    await closed;
  });

  it('answers ResourceExhausted instead of an oversized response', async () => {
    const big: Services = { S: { Big: async () => Buffer.alloc(MAX_DATA_LENGTH) } };
    const c = await client(await serve(big));
    await expect(c.call('S', 'Big', hello, { timeoutMs: 5000 })).rejects.toMatchObject({
      code: Code.resourceExhausted,
    });
  });

  it('refuses even and reused stream ids', async () => {
    const { socket, answer } = raw(await serve());
    socket.write(encodeFrame(2, 1, 0, request(hello)));
    expect(await answer(2)).toMatchObject({ kind: 'error', status: { code: Code.invalidArgument } });
    socket.write(encodeFrame(5, 1, 0, request(hello)));
    expect(await answer(5)).toMatchObject({ kind: 'ok' });
    socket.write(encodeFrame(3, 1, 0, request(hello)));
    expect(await answer(3)).toMatchObject({ kind: 'error', status: { code: Code.invalidArgument } });
  });

  it('refuses a malformed request and ignores unknown frame types', async () => {
    const { socket, answer } = raw(await serve());
    socket.write(encodeFrame(1, 0x55, 0, hello));
    socket.write(encodeFrame(1, 3, 1, hello));
    socket.write(encodeFrame(1, 1, 0, Buffer.from([0x0a, 0x50, 0x01])));
    expect(await answer(1)).toEqual({
      kind: 'error',
      status: { code: Code.invalidArgument, message: 'unmarshal request error' },
    });
  });

  it('answers Unimplemented for unknown services and methods, also for names of Object.prototype', async () => {
    const c = await client(await serve());
    const call = (service: string, method: string) => c.call(service, method, hello, { timeoutMs: 5000 });
    await expect(call('nobody', 'Echo')).rejects.toMatchObject({
      code: Code.unimplemented,
      message: 'service nobody',
    });
    await expect(call('test.v1.Echo', 'toString')).rejects.toMatchObject({
      code: Code.unimplemented,
      message: 'method toString',
    });
    await expect(call('constructor', 'name')).rejects.toMatchObject({ code: Code.unimplemented });
  });

  it('ends a call at the deadline of its request and aborts its signal', async () => {
    let aborted = false;
    const { socket, answer } = raw(
      await serve({
        S: {
          Hang: (_, call) => {
            call.signal.addEventListener('abort', () => {
              aborted = true;
            });
            return new Promise(() => {});
          },
        },
      }),
    );
    socket.write(
      encodeFrame(
        1,
        1,
        0,
        encodeRequest({ service: 'S', method: 'Hang', payload: hello, timeoutMs: 20, metadata: {} }),
      ),
    );
    expect(await answer(1)).toEqual({
      kind: 'error',
      status: { code: Code.deadlineExceeded, message: 'context deadline exceeded' },
    });
    expect(aborted).toBe(true);
  });

  it('serves the requests of one connection in parallel', async () => {
    let release = () => {};
    const services: Services = {
      S: {
        First: () =>
          new Promise((resolve) => {
            release = () => resolve(Buffer.from('1'));
          }),
        Second: async () => {
          release();
          return Buffer.from('2');
        },
      },
    };
    const c = await client(await serve(services));
    const order: string[] = [];
    const first = c.call('S', 'First', hello, { timeoutMs: 5000 }).then(() => order.push('first'));
    const second = c.call('S', 'Second', hello, { timeoutMs: 5000 }).then(() => order.push('second'));
    await Promise.all([first, second]);
    expect(order.sort()).toEqual(['first', 'second']);
  });

  it('passes metadata with lower-case keys and all values', async () => {
    let seen: CallContext['metadata'] | undefined;
    const c = await client(
      await serve({
        S: {
          M: async (payload, call) => {
            seen = call.metadata;
            return payload;
          },
        },
      }),
    );
    await c.call('S', 'M', hello, {
      timeoutMs: 5000,
      metadata: { 'Containerd-Namespace-Ttrpc': ['k8s.io', 'b'] },
    });
    expect(seen).toEqual({ 'containerd-namespace-ttrpc': ['k8s.io', 'b'] });
  });

  it('aborts the calls of a connection that is gone', async () => {
    const aborted = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const c = await client(
      await serve({
        S: {
          Hang: (_, call) => {
            call.signal.addEventListener('abort', () => aborted.resolve());
            started.resolve();
            return new Promise(() => {});
          },
        },
      }),
    );
    const call = c.call('S', 'Hang', hello, { timeoutMs: 5000 });
    await started.promise;
    c.close();
    await expect(call).rejects.toMatchObject({ code: Code.unavailable });
    await aborted.promise;
  });

  it('closes a connection whose peer is not authorized without a byte', async () => {
    const path = await serve(echo, () => {
      throw new Error('uid 1000');
    });
    const c = await client(path);
    await expect(c.call('test.v1.Echo', 'Echo', hello, { timeoutMs: 5000 })).rejects.toMatchObject({
      code: Code.unavailable,
    });
  });
});

describe('client', () => {
  it('rejects with the code and message of the server', async () => {
    const c = await client(await serve());
    await expect(c.call('test.v1.Echo', 'Fail', hello, { timeoutMs: 5000 })).rejects.toMatchObject({
      code: Code.notFound,
      message: 'container not created',
    });
  });

  it('gives up at its own deadline, drops the late answer and stays usable', async () => {
    const path = join(tmpdir(), `ttrpc-${randomUUID()}.sock`);
    const server = createServer((socket) => {
      const decoder = new FrameDecoder();
      socket.on('data', (chunk: Buffer) => {
        for (const frame of decoder.push(chunk)) {
          const answer = () =>
            socket.write(
              encodeFrame(
                frame.stream,
                2,
                0,
                encodeResponse({ kind: 'ok', payload: Buffer.from(String(frame.stream)) }),
              ),
            );
          if (frame.stream === 1) setTimeout(answer, 60);
          else answer();
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    cleanups.push(
      () => server.close(),
      () => rmSync(path, { force: true }),
    );
    const c = await client(path);
    await expect(c.call('S', 'M', hello, { timeoutMs: 20 })).rejects.toMatchObject({
      code: Code.deadlineExceeded,
    });
    await new Promise((resolve) => setTimeout(resolve, 80));
    expect(Buffer.from(await c.call('S', 'M', hello, { timeoutMs: 5000 })).toString()).toBe('3');
  });

  it('refuses a request that no server would take, and gives up on a signal', async () => {
    const c = await client(await serve());
    await expect(
      c.call('test.v1.Echo', 'Echo', Buffer.alloc(MAX_DATA_LENGTH + HEADER_LENGTH), { timeoutMs: 5000 }),
    ).rejects.toMatchObject({ code: Code.resourceExhausted });
    const abort = new AbortController();
    const hanging = c.call('test.v1.Echo', 'Hang', hello, { timeoutMs: 5000, signal: abort.signal });
    abort.abort();
    await expect(hanging).rejects.toMatchObject({ code: Code.canceled });
  });

  it('is Unavailable where nobody listens', async () => {
    await expect(TtrpcClient.connect('/nonexistent/thaw.sock', 1000)).rejects.toMatchObject({
      code: Code.unavailable,
    });
  });
});
