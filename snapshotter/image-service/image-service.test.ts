/** The image service between a kubelet's client and a fake containerd, over real sockets. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import pino from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Credentials } from '../../checkpoint/registry/index.ts';
import { Code } from '../../proto/status.ts';
import { loadService } from '../grpc/clients.ts';
import { ForwardedError, GrpcServer, loadDefinition, type Method } from '../grpc/index.ts';
import { ImageService } from './index.ts';

const PROTO = 'cri/runtime/v1/api.proto';
const SERVICE = 'runtime.v1.ImageService';
const SECRET = 'hunter2-and-more';
const definition = loadDefinition(PROTO, SERVICE);

let dir: string;
let containerd: GrpcServer;
let service: ImageService;
let client: Client;
let kept: [object, Credentials][];
let log: string[];
let answer: (name: string, ...args: Parameters<Method>) => ReturnType<Method>;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-images-'));
  kept = [];
  log = [];
  const methods = Object.entries(definition).map(
    ([name, { path }]) => [path, (...args: Parameters<Method>) => answer(name, ...args)] as const,
  );
  containerd = new GrpcServer(new Map(methods), () => {});
  await containerd.listen({ path: join(dir, 'containerd') });
  service = new ImageService({
    address: join(dir, 'containerd'),
    keep: (repository, found) => kept.push([repository, found]),
    log: pino({ level: 'trace' }, { write: (line: string) => void log.push(line) }),
  });
  await service.listen({ path: join(dir, 's') });
  client = new (loadService(PROTO, SERVICE))(`unix:${join(dir, 's')}`, credentials.createInsecure());
});
afterEach(async () => {
  client.close();
  await service.close(1_000);
  await containerd.close(1_000);
  rmSync(dir, { recursive: true });
});

type Unary = (
  request: object,
  metadata: Metadata,
  options: { deadline?: number },
  callback: (error: ServiceError | null, response: unknown) => void,
) => { cancel(): void };

function call(name: string, request: object, options: { deadline?: number } = {}) {
  const metadata = new Metadata();
  metadata.set('x-asked-by', 'kubelet');
  let cancel = () => {};
  const answered = new Promise<unknown>((resolve, reject) => {
    const unary = (client as unknown as Record<string, Unary>)[name] as Unary;
    const calling = unary.call(client, request, metadata, options, (error, response) =>
      error ? reject(error) : resolve(response),
    );
    cancel = () => calling.cancel();
  });
  return { answered, cancel };
}
const pull = (image: string, auth: object) => call('PullImage', { image: { image }, auth }).answered;
const encoded = (name: string, message: object) =>
  (definition[name] as NonNullable<(typeof definition)[string]>).responseSerialize(message);

test('every call goes on as it came, and so does its answer', async () => {
  const asked: unknown[] = [];
  answer = async (name, request, { headers }) => {
    asked.push([name, request.toString('latin1'), headers['x-asked-by']]);
    return encoded(name, name === 'ListImages' ? { images: [{ id: 'i', size: '5' }] } : {});
  };
  expect(await call('ListImages', { filter: { image: { image: 'x' } } }).answered).toMatchObject({
    images: [{ id: 'i', size: '5' }],
  });
  for (const name of ['ImageStatus', 'RemoveImage', 'ImageFsInfo']) await call(name, {}).answered;
  expect(asked).toEqual([
    ['ListImages', '\n\u0005\n\u0003\n\u0001x', 'kubelet'],
    ['ImageStatus', '', 'kubelet'],
    ['RemoveImage', '', 'kubelet'],
    ['ImageFsInfo', '', 'kubelet'],
  ]);
});

test("a pull's credentials are kept before containerd asks for a layer, and logged nowhere", async () => {
  let keptBefore = 0;
  answer = async (name, request) => {
    keptBefore = kept.length;
    expect(request.toString('latin1')).toContain(SECRET);
    return encoded(name, { imageRef: 'sha256:1' });
  };
  const login = { username: 'me', password: SECRET };
  expect(await pull('r.example:5000/team/app:1', login)).toEqual({ imageRef: 'sha256:1' });
  expect(keptBefore).toBe(1);
  expect(kept).toEqual([
    [
      { registry: 'r.example:5000', repository: 'team/app' },
      { kind: 'password', ...login },
    ],
  ]);
  await pull('r.example:5000/team/app:1', { ...login, serverAddress: 'other.example' });
  // What cannot be kept is containerd's to refuse.
  await pull('/:/', login);
  expect(kept.length).toBe(1);
  expect(log.join('')).toContain('credentials not kept');
  expect(log.join('')).not.toContain(SECRET);
});

test('an error comes back with all that containerd said', async () => {
  answer = () =>
    Promise.reject(
      new ForwardedError(Code.notFound, 'no »image«, 100%', {
        'grpc-status-details-bin': Buffer.from('more').toString('base64'),
      }),
    );
  const failure = await call('ImageStatus', {}).answered.catch((error: ServiceError) => error);
  expect(failure).toMatchObject({ code: Code.notFound, details: 'no »image«, 100%' });
  expect((failure as ServiceError).metadata.get('grpc-status-details-bin')).toEqual([Buffer.from('more')]);
});

test('who gives up ends the call behind, and a limit goes on', async () => {
  let signal: AbortSignal | undefined;
  answer = (_, __, { signal: gone }) => {
    signal = gone;
    return new Promise(() => {});
  };
  const { answered, cancel } = call('PullImage', { image: { image: 'a' } });
  const cancelled = expect(answered).rejects.toMatchObject({ code: Code.canceled });
  await expect.poll(() => signal).toBeDefined();
  cancel();
  await cancelled;
  await expect.poll(() => signal?.aborted).toBe(true);
  let limit: unknown;
  answer = async (name, _, { headers }) => {
    limit = headers['grpc-timeout'];
    return encoded(name, {});
  };
  await call('ImageStatus', {}, { deadline: Date.now() + 60_000 }).answered;
  expect(String(limit)).toMatch(/^\d+[munSM]$/);
});

test('a containerd that is not there is Unavailable', async () => {
  await containerd.close(0);
  await expect(call('ListImages', {}).answered).rejects.toMatchObject({ code: Code.unavailable });
});
