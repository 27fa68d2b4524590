import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Registries } from './registry.ts';

let dir: string;
let server: Server;
let host: string;
let seen: (string | undefined)[];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'thaw-'));
  seen = [];
  server = createServer((request, response) => {
    seen.push(request.headers.authorization);
    if (!request.headers.authorization) response.setHeader('www-authenticate', 'Basic realm="r"');
    response.statusCode = request.headers.authorization ? 404 : 401;
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  host = `127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
});
afterEach(async () => {
  await new Promise((resolve) => server.close(resolve));
  await rm(dir, { recursive: true });
});

it('logs in to a registry on this machine, without TLS, as docker login left it', async () => {
  const auth = Buffer.from('me:secret').toString('base64');
  await writeFile(join(dir, 'config.json'), JSON.stringify({ auths: { [host]: { auth } } }));
  const registries = new Registries(false, { DOCKER_CONFIG: dir });
  const client = registries.client(host);
  expect(registries.client(host)).toBe(client);
  await expect(client.headBlob('a', `sha256:${'0'.repeat(64)}`)).resolves.toBeUndefined();
  expect(seen.at(-1)).toBe(`Basic ${auth}`);
  await registries.close();
});

it('goes without credentials where there is no file', async () => {
  const registries = new Registries(false, { HOME: dir });
  const client = registries.client(host);
  await expect(client.manifest('a', 'b')).rejects.toThrow('401');
  await registries.close();
});

it('never quotes a file that it cannot read', async () => {
  await writeFile(join(dir, 'config.json'), 'secret');
  const registries = new Registries(false, { DOCKER_CONFIG: dir });
  const failure = await registries
    .client(host)
    .manifest('a', 'b')
    .catch((error: Error) => error);
  expect(failure).toBeInstanceOf(Error);
  expect(JSON.stringify(failure, Object.getOwnPropertyNames(failure))).not.toContain('secret');
  await registries.close();
});
