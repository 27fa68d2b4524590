/** Credentials that expire, are many, or are refused, against a registry that is a fake. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { digestOf } from '../digest.ts';
import { seeded } from '../random.test-helper.ts';
import { RegistryClient } from './client.ts';
import { type CredentialRequest, type Credentials, isRefused } from './credentials.ts';
import { FaultServer } from './fault-server.test-helper.ts';

const data = seeded(11).bytes(300_000);
const password = (name: string): Credentials => ({ kind: 'password', username: name, password: 'hunter2' });
const basic = (name: string) => `Basic ${Buffer.from(`${name}:hunter2`).toString('base64')}`;

let server: FaultServer;
let tokens: FaultServer;
let client: RegistryClient;
/** What there is; tests change it. */
let known: Credentials[];
let asked: CredentialRequest[];

beforeEach(async () => {
  server = await FaultServer.start();
  tokens = await FaultServer.start();
  known = [];
  asked = [];
  client = new RegistryClient({
    registry: server.host,
    credentials: async (request) => {
      asked.push(request);
      return known.find((each) => !isRefused(each, request.refused));
    },
    retry: { attempts: 1 },
  });
});
afterEach(async () => {
  await client.close();
  await server.stop();
  await tokens.stop();
});

async function read(digest: string, offset = 0, length = 10): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of client.readRange('a/b', digest, offset, length)) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

describe('Basic', () => {
  beforeEach(() => {
    server.challenge = 'Basic realm="x"';
  });

  test.each([401, 403])(
    'a password that expires (%i) is asked for again, once for many requests',
    async (status) => {
      const { digest } = server.addBlob(data);
      known = [password('old')];
      server.authorization = basic('old');
      await read(digest);
      known = [password('new')];
      server.authorization = undefined;
      server.fault = (request, response) => {
        if (request.headers.authorization === basic('new')) return false;
        response.writeHead(status, status === 401 ? { 'www-authenticate': server.challenge } : {}).end();
        return true;
      };
      const before = asked.length;
      const parts = await Promise.all([0, 1, 2, 3].map((i) => read(digest, i * 10)));
      expect(Buffer.concat(parts).equals(data.subarray(0, 40))).toBe(true);
      expect(asked.slice(before)).toEqual([
        { registry: server.host, repository: 'a/b', refused: [password('old')] },
      ]);
    },
  );

  test('each of several is tried', async () => {
    const { digest } = server.addBlob(data);
    known = [password('one'), { kind: 'refresh-token', token: 't' }, password('two'), password('three')];
    server.authorization = basic('three');
    expect((await read(digest)).equals(data.subarray(0, 10))).toBe(true);
  });

  test('when none is taken the error says so, and the next request begins anew', async () => {
    const { digest } = server.addBlob(data);
    known = [password('one')];
    server.authorization = basic('other');
    const failure: unknown = await read(digest).catch((error) => error);
    expect(failure).toMatchObject({ code: Code.unauthenticated });
    expect(JSON.stringify(failure, Object.getOwnPropertyNames(failure))).not.toMatch(/hunter2|b25l/);
    server.authorization = basic('one');
    expect((await read(digest)).equals(data.subarray(0, 10))).toBe(true);
  });

  test('nothing is asked for where nobody wants to know', async () => {
    await read(server.addBlob(data).digest);
    expect(asked).toEqual([]);
  });

  test('what cannot be read is the error', async () => {
    server.authorization = basic('me');
    const failing = new RegistryClient({
      registry: server.host,
      credentials: async () => {
        throw new Error('the file is gone');
      },
    });
    await expect(failing.headBlob('a/b', digestOf('x'))).rejects.toThrow('the file is gone');
    await failing.close();
  });
});

describe('tokens', () => {
  let takes: string;
  let issued: number;
  beforeEach(() => {
    takes = 'one';
    issued = 0;
    server.challenge = `Bearer realm="${tokens.url}/token",service="s"`;
    server.authorization = 'Bearer t1';
    tokens.fault = (request, response) => {
      if (request.headers.authorization !== basic(takes)) response.writeHead(401).end();
      else response.end(JSON.stringify({ token: `t${++issued}` }));
      return true;
    };
  });

  test('a token service that refuses a password is told another', async () => {
    const { digest } = server.addBlob(data);
    takes = 'two';
    known = [password('one'), password('two')];
    await read(digest);
    expect(issued).toBe(1);
  });

  test('a password that expired while a token was good is asked for again', async () => {
    const { digest } = server.addBlob(data);
    known = [password('one')];
    await read(digest);
    server.authorization = 'Bearer t2';
    takes = 'two';
    known = [password('two')];
    await read(digest);
    expect(asked.at(-1)?.refused).toEqual([]);
  });

  test('a token that expires in the middle of a download is renewed with the same password', async () => {
    const { digest } = server.addBlob(data);
    known = [password('one')];
    let cut = false;
    server.fault = (request, response) => {
      if (cut || request.headers.authorization !== 'Bearer t1') return false;
      cut = true;
      server.authorization = 'Bearer t2';
      response.writeHead(206, { 'content-range': 'bytes 0-199999/300000', 'content-length': 200_000 });
      response.write(data.subarray(0, 100_000), () => response.destroy());
      return true;
    };
    const patient = new RegistryClient({
      registry: server.host,
      credentials: async ({ refused }) => known.find((each) => !isRefused(each, refused)),
      retry: { attempts: 2, baseMs: 1 },
    });
    const parts: Buffer[] = [];
    for await (const part of patient.readRange('a/b', digest, 0, 200_000)) parts.push(Buffer.from(part));
    await patient.close();
    expect(Buffer.concat(parts).equals(data.subarray(0, 200_000))).toBe(true);
    expect(issued).toBe(2);
  });

  test('a token that is good for nothing has other credentials tried', async () => {
    const { digest } = server.addBlob(data);
    known = [password('one'), password('two')];
    tokens.fault = (request, response) => {
      response.end(JSON.stringify({ token: request.headers.authorization === basic('two') ? 't1' : 'bad' }));
      return true;
    };
    expect((await read(digest)).equals(data.subarray(0, 10))).toBe(true);
  });

  test('a registry that refuses every token is asked a few times, and no more', async () => {
    server.authorization = 'Bearer none';
    known = [password('one')];
    await expect(read(digestOf('x'))).rejects.toMatchObject({ code: Code.unauthenticated });
    expect(server.requests.length).toBe(3);
    expect(tokens.requests.length).toBe(2);
  });
});
