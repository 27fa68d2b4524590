import { Agent } from 'undici';
import { describe, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { digestOf } from '../digest.ts';
import { seeded } from '../random.test-helper.ts';
import { Authorizer } from './auth.ts';
import { sendBlob } from './fault-server.test-helper.ts';
import { defaultTimeouts, Transport } from './transport.ts';
import { all, connect, fixed, other, server, useTwoRegistries } from './two-registries.test-helper.ts';

const data = seeded(7).bytes(300_000);
useTwoRegistries();

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
