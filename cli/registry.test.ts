import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Authority, loaded } from '../checkpoint/registry/certificates.test-helper.ts';
import { FaultServer } from '../checkpoint/registry/fault-server.test-helper.ts';
import { mediaTypes } from '../checkpoint/registry/index.ts';
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
  const registries = new Registries({ plainHttp: false }, { DOCKER_CONFIG: dir });
  const client = registries.client(host);
  expect(registries.client(host)).toBe(client);
  await expect(client.headBlob('a', `sha256:${'0'.repeat(64)}`)).resolves.toBeUndefined();
  expect(seen.at(-1)).toBe(`Basic ${auth}`);
  await registries.close();
});

it('goes without credentials where there is no file', async () => {
  const registries = new Registries({ plainHttp: false }, { HOME: dir });
  const client = registries.client(host);
  await expect(client.manifest('a', 'b')).rejects.toThrow('401');
  await registries.close();
});

it('never quotes a file that it cannot read', async () => {
  await writeFile(join(dir, 'config.json'), 'secret');
  const registries = new Registries({ plainHttp: false }, { DOCKER_CONFIG: dir });
  const failure = await registries
    .client(host)
    .manifest('a', 'b')
    .catch((error: Error) => error);
  expect(failure).toBeInstanceOf(Error);
  expect(JSON.stringify(failure, Object.getOwnPropertyNames(failure))).not.toContain('secret');
  await registries.close();
});

describe("containerd's hosts.toml", () => {
  const manifest = Buffer.from('{"layers":[]}');
  const selector = 'team/app:1';
  const never = new AbortController().signal;
  let servers: FaultServer[];
  let registries: Registries;

  beforeEach(() => {
    servers = [];
  });
  afterEach(async () => {
    await registries.close();
    for (const each of servers) await each.stop();
  });

  async function serve(tls?: Parameters<typeof FaultServer.start>[0]): Promise<FaultServer> {
    const made = await FaultServer.start(tls);
    made.manifests.set(selector, { mediaType: mediaTypes.ociManifest, bytes: manifest });
    servers.push(made);
    return made;
  }
  async function configure(registry: string, text: string, plainHttp = false): Promise<void> {
    const folder = join(dir, registry.replace(':', '_').concat('_'));
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'hosts.toml'), text);
    registries = new Registries({ plainHttp, hostsDir: dir }, { HOME: dir });
  }
  const read = (registry: string) =>
    registries.reading(registry, never, (client) => client.manifest('team/app', '1', { signal: never }));

  it('has the authority of a registry, to read from and to push to', async () => {
    const authority = new Authority(dir, 'authority');
    const registry = await serve(loaded(authority.issue('server')));
    await configure(registry.host, `server = "${registry.url}"`);
    await expect(read(registry.host)).rejects.toThrow('is not trusted');
    await registries.close();
    await configure(registry.host, `server = "${registry.url}"\nca = "${authority.cert}"`);
    expect((await read(registry.host)).bytes).toEqual(manifest);
    await expect(
      registries.client(registry.host).headBlob('team/app', `sha256:${'0'.repeat(64)}`),
    ).resolves.toBeUndefined();
  });

  it('has mirrors, of which the first that answers is read; what is pushed goes to a host that takes it', async () => {
    const [broken, mirror, registry] = [await serve(), await serve(), await serve()];
    broken.fault = (_, response) => {
      response.writeHead(503).end();
      return true;
    };
    const table = (each: FaultServer, capabilities: string) =>
      `[host."${each.url}"]\ncapabilities = [${capabilities}]`;
    await configure(
      registry.host,
      [
        `server = "${registry.url}"`,
        table(broken, '"pull", "resolve"'),
        table(mirror, '"pull", "resolve"'),
      ].join('\n'),
    );
    expect((await read(registry.host)).bytes).toEqual(manifest);
    expect([broken, mirror, registry].map(({ requests }) => requests.length)).toEqual([1, 1, 0]);
    expect(mirror.requests[0]?.url).toContain(`ns=${encodeURIComponent(registry.host)}`);
    await registries.client(registry.host).headBlob('team/app', `sha256:${'0'.repeat(64)}`);
    expect([broken, mirror, registry].map(({ requests }) => requests.length)).toEqual([1, 1, 1]);
  });

  it('does not count with --plain-http', async () => {
    const registry = await serve();
    await configure(registry.host, 'server = "https://127.0.0.1:1"', true);
    expect((await read(registry.host)).bytes).toEqual(manifest);
  });
});
