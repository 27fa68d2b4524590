/** The gRPC server with a bare HTTP/2 client, which can do what a gRPC client does not. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type ClientHttp2Session, connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { GrpcServer, type Method } from './server.ts';
import { frameMessage, MAX_MESSAGE } from './wire.ts';

const METHOD = '/test.Service/Method';

let dir: string;
let server: GrpcServer;
let client: ClientHttp2Session;
let method: Method;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-grpc-'));
  method = async (request) => request;
  server = new GrpcServer(new Map([[METHOD, (request, call) => method(request, call)]]), () => {});
  await server.listen({ path: join(dir, 's') });
  client = connect('http://localhost', { path: join(dir, 's') } as object);
});
afterEach(async () => {
  client.close();
  await server.close(1_000);
  rmSync(dir, { recursive: true });
});

async function ask(body: Buffer, path = METHOD): Promise<{ status: number; body: string }> {
  const stream = client.request({ ':method': 'POST', ':path': path, te: 'trailers' });
  let status: unknown;
  const told = (headers: Record<string, unknown>) => {
    status = headers['grpc-status'] ?? status;
  };
  stream.on('response', told).on('trailers', told);
  stream.end(body);
  const parts: Buffer[] = [];
  stream.on('data', (part: Buffer) => parts.push(part));
  await once(stream, 'end');
  return { status: Number(status), body: Buffer.concat(parts).toString('latin1') };
}

test('a message comes back behind its prefix, with the status behind it', async () => {
  expect(await ask(frameMessage(Buffer.from('hello')))).toEqual({
    status: Code.ok,
    body: '\0\0\0\0\x05hello',
  });
  expect(await ask(frameMessage(Buffer.alloc(0)))).toEqual({ status: Code.ok, body: '\0\0\0\0\0' });
  const large = Buffer.alloc(3 << 20, 'x');
  expect((await ask(frameMessage(large))).body.length).toBe(large.length + 5);
});

test('what is no call is refused, and the connection goes on', async () => {
  expect((await ask(frameMessage(Buffer.alloc(1)), '/test.Service/None')).status).toBe(Code.unimplemented);
  expect((await ask(Buffer.from('x'))).status).toBe(Code.internal);
  expect((await ask(Buffer.alloc(MAX_MESSAGE + 6))).status).toBe(Code.resourceExhausted);
  expect((await ask(frameMessage(Buffer.alloc(1)))).status).toBe(Code.ok);
});

test('a failure behind messages is told behind them', async () => {
  method = async (_, call) => {
    call.send(Buffer.from('a'));
    throw new Error('no');
  };
  expect(await ask(frameMessage(Buffer.alloc(0)))).toEqual({ status: Code.unknown, body: '\0\0\0\0\x01a' });
});

test('whoever goes away is noticed, also before anybody looks', async () => {
  const begun = Promise.withResolvers<void>();
  const looked = Promise.withResolvers<boolean[]>();
  const gone = Promise.withResolvers<void>();
  method = async (_, call) => {
    call.signal.addEventListener('abort', () => gone.resolve());
    begun.resolve();
    await gone.promise;
    looked.resolve([call.cancelled, call.signal.aborted, call.send(Buffer.from('x'))]);
    return undefined;
  };
  const stream = client.request({ ':method': 'POST', ':path': METHOD });
  stream.on('error', () => {});
  stream.end(frameMessage(Buffer.alloc(0)));
  await begun.promise;
  stream.close();
  expect(await looked.promise).toEqual([true, true, true]);
});

test('calls in flight are answered while it closes, and no other', async () => {
  const begun = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  method = async (request) => {
    begun.resolve();
    await go.promise;
    return request;
  };
  const answered = ask(frameMessage(Buffer.from('x')));
  await begun.promise;
  const closed = server.close(10_000);
  go.resolve();
  expect((await answered).status).toBe(Code.ok);
  await closed;
  await expect.poll(() => client.closed).toBe(true);
});
