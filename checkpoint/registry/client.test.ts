import { Readable } from 'node:stream';
import { Agent } from 'undici';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { digestOf } from '../digest.ts';
import { seeded } from '../random.test-helper.ts';
import { Authorizer } from './auth.ts';
import { RegistryClient } from './client.ts';
import { type Credentials, type FindCredentials, isRefused } from './credentials.ts';
import { FaultServer, sendBlob } from './fault-server.test-helper.ts';
import { mediaTypes } from './media-types.ts';
import { parseReference } from './reference.ts';
import type { RegistryOptions } from './session.ts';
import { defaultTimeouts, Transport } from './transport.ts';

const platform = { os: 'linux', architecture: 'amd64' };
const data = seeded(7).bytes(300_000);
let server: FaultServer;
let other: FaultServer;
let clients: RegistryClient[] = [];

function connect(over: Partial<RegistryOptions> = {}): RegistryClient {
  const client = new RegistryClient({
    registry: server.host,
    retry: { attempts: 3, baseMs: 1, maxMs: 2 },
    timeouts: { headersMs: 2000, readMs: 300, minBytes: 1000, commitMs: 300 },
    ...over,
  });
  clients.push(client);
  return client;
}

/** These, until they are refused. */
function fixed(...list: Credentials[]): FindCredentials {
  return async ({ refused }) => list.find((each) => !isRefused(each, refused));
}

async function all(parts: AsyncIterable<Buffer>): Promise<Buffer> {
  const list: Buffer[] = [];
  for await (const part of parts) list.push(Buffer.from(part));
  return Buffer.concat(list);
}

beforeEach(async () => {
  server = await FaultServer.start();
  other = await FaultServer.start();
});

afterEach(async () => {
  await Promise.all(clients.map((client) => client.close()));
  clients = [];
  await server.stop();
  await other.stop();
});

describe('manifests', () => {
  function addImage(tag: string): string {
    const config = server.addBlob(
      Buffer.from(
        JSON.stringify({
          os: 'linux',
          architecture: 'amd64',
          rootfs: { type: 'layers', diff_ids: [digestOf('l')] },
        }),
      ),
    );
    return server.addManifest('a/b', tag, mediaTypes.ociManifest, {
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, ...config },
      layers: [{ mediaType: mediaTypes.ociLayerGzip, digest: digestOf('z'), size: 1 }],
    });
  }
  const image = (client: RegistryClient, tag: string) =>
    client.image(parseReference(`${server.host}/a/b${tag}`), platform);

  test('an image is read by tag and by digest', async () => {
    const digest = addImage('v1');
    for (const selector of [':v1', `@${digest}`]) {
      const pulled = await image(connect(), selector);
      expect(pulled.descriptor.digest).toBe(digest);
      expect(pulled.config.rootfs.diff_ids).toHaveLength(1);
    }
  });

  test('an index leads to the platform asked for', async () => {
    const digest = addImage('single');
    const entry = (architecture: string, d: string) => ({
      mediaType: mediaTypes.ociManifest,
      digest: d,
      size: 1,
      platform: { os: 'linux', architecture },
    });
    server.addManifest('a/b', 'multi', mediaTypes.ociIndex, {
      schemaVersion: 2,
      manifests: [entry('arm64', digestOf('none')), entry('amd64', digest)],
    });
    expect((await image(connect(), ':multi')).descriptor.digest).toBe(digest);
    server.addManifest('a/b', 'arm', mediaTypes.ociIndex, {
      schemaVersion: 2,
      manifests: [entry('arm64', digestOf('none'))],
    });
    await expect(image(connect(), ':arm')).rejects.toThrow('no linux/amd64 variant (it has linux/arm64)');
  });

  test('bytes that do not have the digest asked for are refused', async () => {
    const digest = addImage('v1');
    server.manifests.set(`a/b:${digest}`, { mediaType: mediaTypes.ociManifest, bytes: Buffer.from('{}') });
    await expect(image(connect(), `@${digest}`)).rejects.toMatchObject({ code: Code.dataLoss });
  });

  test('a config that was changed is refused', async () => {
    addImage('v1');
    for (const [digest, bytes] of server.blobs)
      server.blobs.set(digest, Buffer.from(bytes.toString().replace('linux', 'LINUX')));
    await expect(image(connect(), ':v1')).rejects.toMatchObject({ code: Code.dataLoss });
  });

  test('a manifest that poses as an index is refused', async () => {
    server.addManifest('a/b', 'odd', mediaTypes.ociIndex, { schemaVersion: 2, manifests: [], layers: [] });
    await expect(image(connect(), ':odd')).rejects.toThrow('neither an image nor an image index');
  });

  test('404 names the registry, the repository and what to do', async () => {
    await expect(image(connect(), ':gone')).rejects.toMatchObject({
      code: Code.notFound,
      message: `Cannot read the manifest gone: registry ${server.host} answered 404 for a/b (MANIFEST_UNKNOWN: manifest unknown); check the name and tag`,
    });
  });

  test('a web server that is no registry is no image', async () => {
    server.fault = (_, response) => {
      response.end('<html>hello</html>');
      return true;
    };
    await expect(image(connect(), ':v1')).rejects.toThrow('it is no JSON');
  });

  test('a manifest without end is refused', async () => {
    server.fault = (_, response) => {
      response.write(Buffer.alloc(5_000_000, 32));
      return true;
    };
    await expect(image(connect(), ':v1')).rejects.toMatchObject({ code: Code.resourceExhausted });
  });

  test('is pushed and read back', async () => {
    const bytes = Buffer.from('{"schemaVersion":2}');
    const digest = await connect().pushManifest('a/b', 'new', mediaTypes.ociManifest, bytes);
    expect(digest).toBe(digestOf(bytes));
    expect(server.manifests.get('a/b:new')).toEqual({ mediaType: mediaTypes.ociManifest, bytes });
  });
});

describe('login', () => {
  const password = { kind: 'password', username: 'me', password: 'hunter2' } as const;
  const basic = `Basic ${Buffer.from('me:hunter2').toString('base64')}`;

  test('a bearer token is fetched once for many requests', async () => {
    const blob = server.addBlob(data);
    server.authorization = 'Bearer tok';
    server.challenge = `Bearer realm="${other.url}/token",service="reg",scope="ignored"`;
    other.fault = (request, response) => {
      const url = new URL(request.url ?? '', other.url);
      expect(url.searchParams.get('service')).toBe('reg');
      expect(url.searchParams.get('scope')).toBe('repository:a/b:pull');
      expect(request.headers.authorization).toBe(basic);
      response.end('{"token":"tok","expires_in":300}');
      return true;
    };
    const client = connect({ credentials: fixed(password) });
    await Promise.all([0, 1, 2, 3].map((i) => all(client.readRange('a/b', blob.digest, i * 10, 10))));
    await all(client.readRange('a/b', blob.digest, 50, 10));
    expect(other.requests).toHaveLength(1);
  });

  test('a refresh token is exchanged', async () => {
    server.authorization = 'Bearer tok';
    server.challenge = `Bearer realm="${other.url}/token",service="reg"`;
    other.fault = (request, response) => {
      let body = '';
      request.on('data', (part: Buffer) => {
        body += part.toString();
      });
      request.on('end', () => {
        const form = new URLSearchParams(body);
        const good = form.get('grant_type') === 'refresh_token' && form.get('refresh_token') === 'rt';
        response.writeHead(good ? 200 : 400).end('{"access_token":"tok"}');
      });
      return true;
    };
    const client = connect({ credentials: fixed({ kind: 'refresh-token', token: 'rt' }) });
    expect(await client.headBlob('a/b', digestOf('none'))).toBeUndefined();
  });

  test('a token that was revoked is fetched anew', async () => {
    const blob = server.addBlob(data);
    let issued = 0;
    server.challenge = `Bearer realm="${other.url}/token"`;
    server.authorization = 'Bearer t1';
    other.fault = (_, response) => {
      response.end(JSON.stringify({ token: `t${++issued}` }));
      return true;
    };
    const client = connect();
    await all(client.readRange('a/b', blob.digest, 0, 10));
    server.authorization = 'Bearer t2';
    await all(client.readRange('a/b', blob.digest, 0, 10));
    expect(issued).toBe(2);
  });

  test('Basic works', async () => {
    server.authorization = basic;
    server.challenge = 'Basic realm="x"';
    expect(await connect({ credentials: fixed(password) }).headBlob('a/b', digestOf('x'))).toBeUndefined();
  });

  test('a refused login says so, says what to do, and shows no secret', async () => {
    server.authorization = 'Basic other';
    server.challenge = 'Basic realm="x"';
    const failed: unknown = await connect({ credentials: fixed(password) })
      .manifest('a/b', 'v1')
      .catch((e) => e);
    expect(failed).toMatchObject({ code: Code.unauthenticated });
    const text = JSON.stringify(failed, Object.getOwnPropertyNames(failed));
    expect(text).toContain('docker login');
    expect(text).not.toMatch(new RegExp(`hunter2|${basic.slice(6)}`));
    expect(server.requests).toHaveLength(2);
  });

  test.each([
    ['http://token.example/token', false],
    ['ftp://token.example/token', true],
    ['nowhere', true],
  ])('no password goes to the token service %s (plain HTTP allowed: %s)', async (realm, plainHttp) => {
    const transport = new Transport({ dispatcher: new Agent() }, defaultTimeouts);
    const authorizer = new Authorizer(transport, fixed(password), plainHttp);
    const subject = { registry: 'registry.example', repository: 'a/b', action: 'test' };
    const challenges = [{ scheme: 'bearer', parameters: { realm } }];
    await expect(
      authorizer.answer(
        subject,
        { repository: 'a/b', actions: 'pull' },
        { challenges, rejected: undefined, wasNew: false },
      ),
    ).rejects.toThrow(/without HTTPS|no valid address/);
  });

  test.each(['', '{}', '{"token":"a\\r\\nX-Evil: 1"}', 'x'])(
    'the token answer %j is refused',
    async (text) => {
      server.authorization = 'Bearer tok';
      server.challenge = `Bearer realm="${other.url}/token"`;
      other.fault = (_, response) => {
        response.end(text);
        return true;
      };
      await expect(connect().headBlob('a/b', digestOf('x'))).rejects.toThrow('sent no token');
    },
  );
});

describe('redirects', () => {
  const credentials = fixed({ kind: 'password', username: 'me', password: 'hunter2' });

  test('Authorization is not sent to another host', async () => {
    const blob = other.addBlob(data);
    server.authorization = `Basic ${Buffer.from('me:hunter2').toString('base64')}`;
    server.challenge = 'Basic realm="x"';
    server.fault = (request, response) => {
      if (request.headers.authorization === undefined) return false;
      response.writeHead(307, { location: `${other.url}/v2/s/blobs/${blob.digest}?signature=secret` }).end();
      return true;
    };
    const client = connect({ credentials });
    expect((await all(client.readBlob('a/b', blob))).equals(data)).toBe(true);
    expect(await all(client.readRange('a/b', blob.digest, 5, 7))).toEqual(data.subarray(5, 12));
    expect(server.requests.some((r) => r.headers.authorization !== undefined)).toBe(true);
    expect(other.requests.length).toBeGreaterThan(0);
    for (const request of other.requests) expect(request.headers.authorization).toBeUndefined();
  });

  test('Authorization does not come back after a detour', async () => {
    const blob = server.addBlob(data);
    server.authorization = `Basic ${Buffer.from('me:hunter2').toString('base64')}`;
    server.challenge = 'Basic realm="x"';
    server.fault = (request, response) => {
      if (request.url?.includes('/stored/')) {
        expect(request.headers.authorization).toBeUndefined();
        sendBlob(request, response, data);
        return true;
      }
      if (request.headers.authorization === undefined) return false;
      response.writeHead(307, { location: `${other.url}/hop` }).end();
      return true;
    };
    other.fault = (_, response) => {
      response.writeHead(307, { location: `${server.url}/stored/x` }).end();
      return true;
    };
    expect((await all(connect({ credentials }).readBlob('a/b', blob))).equals(data)).toBe(true);
  });

  test('a loop ends', async () => {
    server.fault = (request, response) => {
      response.writeHead(302, { location: request.url }).end();
      return true;
    };
    const client = connect({ retry: { attempts: 1 } });
    await expect(client.manifest('a/b', 'v1')).rejects.toThrow('redirected more than 5 times');
    expect(server.requests).toHaveLength(6);
  });

  test.each(['', 'ftp://x/y', 'http://[', 'file:///etc/passwd'])('to %j is refused', async (location) => {
    server.fault = (_, response) => {
      response.writeHead(307, location === '' ? {} : { location }).end();
      return true;
    };
    await expect(connect({ retry: { attempts: 1 } }).manifest('a/b', 'v1')).rejects.toThrow('redirected to');
  });

  test('the address of a range is kept, and asked for anew when it has expired', async () => {
    const blob = other.addBlob(data);
    let generation = 1;
    server.fault = (_, response) => {
      response.writeHead(307, { location: `${other.url}/v2/s/blobs/${blob.digest}?g=${generation}` }).end();
      return true;
    };
    other.fault = (request, response) => {
      if (request.url?.endsWith(`g=${generation}`)) return false;
      response.writeHead(403).end('expired');
      return true;
    };
    const client = connect();
    for (let i = 0; i < 3; i++)
      expect(await all(client.readRange('a/b', blob.digest, i, 5))).toEqual(data.subarray(i, i + 5));
    expect(server.requests).toHaveLength(1);
    generation = 2;
    expect(await all(client.readRange('a/b', blob.digest, 9, 5))).toEqual(data.subarray(9, 14));
    expect(server.requests).toHaveLength(2);
  });
});

describe('ranges', () => {
  test('exactly the bytes asked for come', async () => {
    const blob = server.addBlob(data);
    for (const [offset, length] of [
      [0, 1],
      [0, data.length],
      [data.length - 1, 1],
      [12_345, 100_000],
    ] as const)
      expect(
        (await all(connect().readRange('a/b', blob.digest, offset, length))).equals(
          data.subarray(offset, offset + length),
        ),
      ).toBe(true);
  });

  test('a whole body instead of a range is skipped into', async () => {
    const blob = server.addBlob(data);
    server.fault = (request) => {
      delete request.headers.range;
      return false;
    };
    const got = await all(connect().readRange('a/b', blob.digest, 100_000, 1000));
    expect(got.equals(data.subarray(100_000, 101_000))).toBe(true);
  });

  test('a whole body is not skipped into for ever', async () => {
    server.fault = (_, response) => {
      response.writeHead(200);
      response.write(Buffer.alloc(1000));
      return true;
    };
    await expect(all(connect().readRange('a/b', digestOf('x'), 2 ** 32, 10))).rejects.toMatchObject({
      code: Code.failedPrecondition,
    });
  });

  test('416 means that the blob is shorter than the image says', async () => {
    const blob = server.addBlob(data);
    await expect(all(connect().readRange('a/b', blob.digest, data.length, 1))).rejects.toThrow('shorter');
    expect(server.requests).toHaveLength(1);
  });

  test('another range than was asked for is never handed out', async () => {
    for (const header of [
      'bytes 1-10/300000',
      'bytes 0-10/300000',
      'bytes 0-/1',
      'items 0-9/10',
      undefined,
    ]) {
      server.fault = (_, response) => {
        response.writeHead(206, header === undefined ? {} : { 'content-range': header }).end('x'.repeat(10));
        return true;
      };
      await expect(all(connect().readRange('a/b', digestOf('x'), 0, 10))).rejects.toThrow('another range');
    }
  });

  test('a range that is longer than it says is cut', async () => {
    server.fault = (_, response) => {
      response.writeHead(206, { 'content-range': 'bytes 0-9/300000' }).end(data.subarray(0, 500));
      return true;
    };
    expect(await all(connect().readRange('a/b', digestOf('x'), 0, 10))).toEqual(data.subarray(0, 10));
  });

  test('a compressed answer is refused', async () => {
    server.fault = (_, response) => {
      response.writeHead(206, { 'content-range': 'bytes 0-9/10', 'content-encoding': 'gzip' }).end('x');
      return true;
    };
    await expect(all(connect().readRange('a/b', digestOf('x'), 0, 10))).rejects.toThrow('content encoding');
  });

  test('a server that speaks something else is named, with what it did', async () => {
    server.fault = (request) => {
      request.socket.end('SSH-2.0-x\r\n\r\n');
      return true;
    };
    await expect(all(connect().readRange('a/b', digestOf('x'), 0, 10))).rejects.toThrow(
      'does not speak HTTP/1.1 as it should',
    );
  });

  test('a short answer is continued where it ended', async () => {
    const blob = server.addBlob(data);
    server.fault = (request, response) => {
      const [, first, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? [];
      const end = Math.min(Number(first) + 99_999, Number(last));
      response.writeHead(206, { 'content-range': `bytes ${first}-${end}/${data.length}` });
      response.end(data.subarray(Number(first), end + 1));
      return true;
    };
    expect((await all(connect().readRange('a/b', blob.digest, 0, data.length))).equals(data)).toBe(true);
    expect(server.requests.map((r) => r.headers.range)).toEqual([
      'bytes=0-299999',
      'bytes=100000-299999',
      'bytes=200000-299999',
    ]);
  });

  test('a connection that breaks is continued where it broke', async () => {
    const blob = server.addBlob(data);
    server.fault = (_, response, n) => {
      if (n > 1) return false;
      response.writeHead(206, {
        'content-range': `bytes 0-${data.length - 1}/${data.length}`,
        'content-length': data.length,
      });
      response.write(data.subarray(0, 1000), () => response.destroy());
      return true;
    };
    expect((await all(connect().readRange('a/b', blob.digest, 0, data.length))).equals(data)).toBe(true);
    expect(server.requests).toHaveLength(2);
  });

  test('a body that always breaks fails in the end', async () => {
    server.fault = (_, response) => {
      response.writeHead(206, { 'content-range': 'bytes 0-9/10', 'content-length': 10 });
      response.write('x', () => response.destroy());
      return true;
    };
    await expect(all(connect().readRange('a/b', digestOf('x'), 0, 10))).rejects.toMatchObject({
      code: Code.unavailable,
    });
    expect(server.requests.length).toBeLessThanOrEqual(3);
  });

  test('a body that stops, or drips, meets a deadline', async () => {
    for (const drip of [false, true]) {
      const timers: NodeJS.Timeout[] = [];
      server.fault = (_, response) => {
        response.writeHead(206, { 'content-range': 'bytes 0-99999/100000', 'content-length': 100_000 });
        response.write('x');
        if (drip) timers.push(setInterval(() => response.write('x'), 20));
        return true;
      };
      const started = performance.now();
      await expect(
        all(connect({ retry: { attempts: 1 } }).readRange('a/b', digestOf('x'), 0, 100_000)),
      ).rejects.toMatchObject({ code: Code.deadlineExceeded });
      expect(performance.now() - started).toBeLessThan(3000);
      for (const timer of timers) clearInterval(timer);
    }
  });

  test('a slow consumer is not a slow registry', async () => {
    const blob = server.addBlob(data);
    let bytes = 0;
    for await (const part of connect().readRange('a/b', blob.digest, 0, data.length)) {
      if (bytes === 0) await new Promise((done) => setTimeout(done, 700));
      bytes += part.length;
    }
    expect(bytes).toBe(data.length);
    expect(server.requests).toHaveLength(1);
  });

  test('leaving the loop ends the transfer', async () => {
    const closed = new Promise<void>((done) => {
      server.fault = (_, response) => {
        response.on('close', done);
        response.writeHead(206, { 'content-range': 'bytes 0-999999/1000000', 'content-length': 1_000_000 });
        response.write(data);
        return true;
      };
    });
    for await (const _ of connect().readRange('a/b', digestOf('x'), 0, 1_000_000)) break;
    await closed;
  });
});

describe('whole blobs', () => {
  test('are verified', async () => {
    const blob = server.addBlob(data);
    expect((await all(connect().readBlob('a/b', blob))).equals(data)).toBe(true);
    const damaged = Buffer.from(data);
    damaged[1000] = (damaged[1000] ?? 0) ^ 1;
    server.blobs.set(blob.digest, damaged);
    await expect(all(connect().readBlob('a/b', blob))).rejects.toMatchObject({ code: Code.dataLoss });
  });

  test('are continued by range and still verified', async () => {
    const blob = server.addBlob(data);
    server.fault = (_, response, n) => {
      if (n > 1) return false;
      response.writeHead(200, { 'content-length': data.length });
      response.write(data.subarray(0, 100_000), () => response.destroy());
      return true;
    };
    expect((await all(connect().readBlob('a/b', blob))).equals(data)).toBe(true);
    expect(server.requests[1]?.headers.range).toMatch(/^bytes=\d+-299999$/);
  });

  test('of another length are refused', async () => {
    const blob = server.addBlob(data);
    await expect(all(connect().readBlob('a/b', { ...blob, size: data.length + 1 }))).rejects.toThrow(
      '300000',
    );
    server.fault = (_, response) => {
      response.write(data);
      response.end('more');
      return true;
    };
    await expect(all(connect().readBlob('a/b', blob))).rejects.toThrow('longer');
  });
});

describe('statuses', () => {
  test('429 with Retry-After is waited for', async () => {
    const blob = server.addBlob(data);
    server.fault = (_, response, n) => {
      if (n > 1) return false;
      response.writeHead(429, { 'retry-after': '1' }).end();
      return true;
    };
    const started = performance.now();
    await all(connect().readRange('a/b', blob.digest, 0, 10));
    expect(performance.now() - started).toBeGreaterThan(900);
  });

  test('500 is tried again and then reported', async () => {
    server.fault = (_, response) => {
      response.writeHead(500).end('oops');
      return true;
    };
    await expect(connect().manifest('a/b', 'v1')).rejects.toMatchObject({
      code: Code.unavailable,
      context: { status: 500, repository: 'a/b' },
    });
    expect(server.requests).toHaveLength(3);
  });

  test('403 is not tried again', async () => {
    server.fault = (_, response) => {
      response.writeHead(403).end();
      return true;
    };
    await expect(connect().manifest('a/b', 'v1')).rejects.toMatchObject({ code: Code.permissionDenied });
    expect(server.requests).toHaveLength(1);
  });

  test('a registry that does not answer meets a deadline', async () => {
    server.fault = () => true;
    const client = connect({ retry: { attempts: 1 }, timeouts: { headersMs: 100 } });
    await expect(client.manifest('a/b', 'v1')).rejects.toMatchObject({ code: Code.deadlineExceeded });
  });

  test('a registry that is not there is named', async () => {
    const { host } = other;
    await other.stop();
    const client = connect({ registry: host, retry: { attempts: 2, baseMs: 1, maxMs: 1 } });
    await expect(client.ping()).rejects.toThrow(`nothing listens on ${host}`);
    other = await FaultServer.start();
  });

  test('the terminal is safe from what a registry says', async () => {
    server.fault = (_, response) => {
      response.writeHead(404).end('{"errors":[{"code":"X","message":"\\u001b[31mred"}]}');
      return true;
    };
    await expect(connect().manifest('a/b', 'v1')).rejects.toThrow('X: ?[31mred');
  });

  test('an aborted call ends at once as canceled, a timed out one as a deadline', async () => {
    server.fault = () => true;
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    await expect(connect().manifest('a/b', 'v1', { signal: controller.signal })).rejects.toMatchObject({
      code: Code.canceled,
    });
    await expect(connect().manifest('a/b', 'v1', { signal: AbortSignal.timeout(20) })).rejects.toMatchObject({
      code: Code.deadlineExceeded,
    });
  });
});

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
