import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { digestOf } from '../digest.ts';
import { seeded } from '../random.test-helper.ts';
import { connect, fixed, other, server, useTwoRegistries } from './two-registries.test-helper.ts';

const data = seeded(7).bytes(300_000);
useTwoRegistries();

describe('pushing a blob', () => {
  const source = (bytes: Buffer) => ({
    digest: digestOf(bytes),
    size: bytes.length,
    open: () => Readable.from([bytes.subarray(0, 1000), bytes.subarray(1000)]),
  });

  test('sends it, and skips it the second time', async () => {
    const seen: number[] = [];
    const client = connect();
    expect(await client.pushBlob('a/b', source(data), { onProgress: (n) => seen.push(n) })).toBe('uploaded');
    expect(server.blobs.get(digestOf(data))?.equals(data)).toBe(true);
    expect(seen).toEqual([0, 1000, data.length]);
    expect(await client.pushBlob('a/b', source(data))).toBe('exists');
  });

  test('mounts it from another repository', async () => {
    server.addBlob(data);
    server.fault = (request, response) => {
      if (request.method !== 'HEAD') return false;
      response.writeHead(404).end();
      return true;
    };
    expect(await connect().pushBlob('a/b', source(data), { mountFrom: 'c/d' })).toBe('mounted');
    const post = server.requests.find((r) => r.method === 'POST');
    expect(new URL(post?.url ?? '', server.url).searchParams.get('from')).toBe('c/d');
  });

  test('sends it if it cannot be mounted', async () => {
    expect(await connect().pushBlob('a/b', source(data), { mountFrom: 'c/d' })).toBe('uploaded');
  });

  test('is tried again after 500 and a broken connection, from the start', async () => {
    let puts = 0;
    server.fault = (request, response) => {
      if (request.method !== 'PUT' || ++puts > 2) return false;
      if (puts === 1) response.writeHead(500).end();
      else request.destroy();
      return true;
    };
    expect(await connect().pushBlob('a/b', source(data))).toBe('uploaded');
    expect(server.blobs.get(digestOf(data))?.equals(data)).toBe(true);
  });

  test('follows an upload location on another host without Authorization', async () => {
    server.authorization = `Basic ${Buffer.from('me:pw').toString('base64')}`;
    server.challenge = 'Basic realm="x"';
    server.fault = (request, response) => {
      if (request.method !== 'POST' || request.headers.authorization === undefined) return false;
      response.writeHead(202, { location: `${other.url}/v2/a/b/blobs/uploads/9?_state=y` }).end();
      return true;
    };
    const client = connect({ credentials: fixed({ kind: 'password', username: 'me', password: 'pw' }) });
    expect(await client.pushBlob('a/b', source(data))).toBe('uploaded');
    expect(other.blobs.has(digestOf(data))).toBe(true);
    for (const request of other.requests) expect(request.headers.authorization).toBeUndefined();
  });

  test('a token that expires on the way is renewed', async () => {
    server.challenge = `Bearer realm="${other.url}/token"`;
    server.authorization = 'Bearer t1';
    other.fault = (_, response) => {
      response.end(JSON.stringify({ token: server.authorization?.slice('Bearer '.length) }));
      return true;
    };
    let puts = 0;
    server.fault = (request) => {
      if (request.method === 'PUT' && ++puts === 1) server.authorization = 'Bearer t2';
      return false;
    };
    expect(await connect().pushBlob('a/b', source(data))).toBe('uploaded');
    expect(puts).toBe(2);
  });

  test('a registry that takes nothing meets a deadline', async () => {
    server.fault = (request) => {
      if (request.method !== 'PUT') return false;
      request.pause();
      return true;
    };
    const big = seeded(3).bytes(8_000_000);
    await expect(connect({ retry: { attempts: 1 } }).pushBlob('a/b', source(big))).rejects.toMatchObject({
      code: Code.deadlineExceeded,
    });
  });

  test('a registry that never answers the upload meets a deadline', async () => {
    server.fault = (request) => {
      if (request.method !== 'PUT') return false;
      request.resume();
      return true;
    };
    await expect(connect({ retry: { attempts: 1 } }).pushBlob('a/b', source(data))).rejects.toMatchObject({
      code: Code.deadlineExceeded,
    });
  });

  test('a file that cannot be read is no network error', async () => {
    const broken = {
      ...source(data),
      open: () =>
        new Readable({
          read() {
            this.destroy(new Error('EIO: i/o error'));
          },
        }),
    };
    await expect(connect().pushBlob('a/b', broken)).rejects.toThrow('EIO');
    expect(server.requests.filter((r) => r.method === 'PUT').length).toBeLessThanOrEqual(1);
  });

  test('bytes that do not have their digest are refused by the registry and reported', async () => {
    const wrong = { ...source(data), open: () => Readable.from([Buffer.alloc(data.length)]) };
    await expect(connect().pushBlob('a/b', wrong)).rejects.toMatchObject({ context: { status: 400 } });
  });
});
