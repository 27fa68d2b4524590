/** containerd's certs.d folders, with TLS servers on loopback. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import type { ServerOptions } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { seeded } from '../../checkpoint/random.test-helper.ts';
import { Authority, loaded, type Pair } from '../../checkpoint/registry/certificates.test-helper.ts';
import { FaultServer, sendBlob } from '../../checkpoint/registry/fault-server.test-helper.ts';
import { HostDirectories } from '../../checkpoint/registry/hosts/index.ts';
import type { FindCredentials } from '../../checkpoint/registry/index.ts';
import { Code } from '../../proto/status.ts';
import { Registries } from './registries.ts';

const data = seeded(23).bytes(100_000);
const LENGTH = 50_000;
const BASIC = `Basic ${Buffer.from('me:hunter2').toString('base64')}`;
const login: FindCredentials = async () => ({ kind: 'password', username: 'me', password: 'hunter2' });

let files: string;
let authority: Authority;
let pair: Pair;
let clientPair: Pair;
let root: string;
let servers: FaultServer[];
let registries: Registries;
let digest: string;

beforeAll(() => {
  files = mkdtempSync(join(tmpdir(), 'thaw-certificates-'));
  authority = new Authority(files, 'authority');
  pair = authority.issue('server');
  clientPair = authority.issue('client');
});
afterAll(() => {
  rmSync(files, { recursive: true });
});
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'thaw-certs.d-'));
  servers = [];
  registries = new Registries({ hostsDirs: [join(root, 'none'), root], credentials: login });
});
afterEach(async () => {
  await registries.close();
  for (const server of servers) await server.stop();
  rmSync(root, { recursive: true });
});

async function serve(options?: ServerOptions): Promise<FaultServer> {
  const server = await FaultServer.start(options);
  ({ digest } = server.addBlob(data));
  servers.push(server);
  return server;
}
function folder(name: string): string {
  const directory = join(root, name);
  mkdirSync(directory, { recursive: true });
  return directory;
}
/** The hosts.toml of a registry. */
const configure = (registry: string, text: string) =>
  writeFileSync(join(folder(registry.replace(':', '_').concat('_')), 'hosts.toml'), text);
async function pull(registry: string, again = false): Promise<boolean> {
  const source = registries.source(`${registry}/team/app:1`);
  const parts: Uint8Array[] = [];
  const signal = AbortSignal.timeout(20_000);
  for await (const part of source.read({ digest, dataLayer: undefined }, 0, LENGTH, signal, again))
    parts.push(part);
  return Buffer.concat(parts).equals(data.subarray(0, LENGTH));
}
/** Whether each request to a server came with a client certificate. */
function watchClients(server: FaultServer): boolean[] {
  const seen: boolean[] = [];
  server.fault = (request: IncomingMessage) => {
    seen.push(Object.keys((request.socket as TLSSocket).getPeerCertificate()).length > 0);
    return false;
  };
  return seen;
}
/** What is not there is answered by another server, with an address that is a credential. */
function redirect(from: FaultServer, to: FaultServer): void {
  const before = from.fault;
  from.fault = (request, response, n) => {
    if (before?.(request, response, n)) return true;
    if (from.authorization !== undefined && request.headers.authorization !== from.authorization)
      return false;
    response.writeHead(307, { location: `${to.url}/store?signature=s` }).end();
    return true;
  };
  const inner = to.fault;
  to.fault = (request, response, n) => {
    if (!inner?.(request, response, n)) sendBlob(request, response, to.blobs.get(digest));
    return true;
  };
}

describe('certificates', () => {
  test('an authority of its own is trusted once it is named, also where it redirects to', async () => {
    const [server, store] = [await serve(loaded(pair)), await serve(loaded(pair))];
    redirect(server, store);
    configure(server.host, `server = "${server.url}"`);
    await expect(pull(server.host)).rejects.toMatchObject({
      code: Code.unavailable,
      message: expect.stringMatching(/certificate of 127.0.0.1:\d+ is not trusted .* `ca` in hosts.toml/),
    });
    await registries.close();
    registries = new Registries({ hostsDirs: [root], credentials: login });
    configure(server.host, `server = "${server.url}"\nca = "${authority.cert}"`);
    expect(await pull(server.host)).toBe(true);
    expect(store.requests.length).toBeGreaterThan(0);
  });

  test('a client certificate is shown to its host, and to no other', async () => {
    const asking = {
      ...loaded(pair),
      ca: readFileSync(authority.cert),
      requestCert: true,
      rejectUnauthorized: false,
    };
    const [server, store] = [await serve(asking), await serve(asking)];
    const seen = [watchClients(server), watchClients(store)];
    redirect(server, store);
    configure(
      server.host,
      `server = "${server.url}"\nca = "${authority.cert}"\nclient = [["${clientPair.cert}", "${clientPair.key}"]]`,
    );
    expect(await pull(server.host)).toBe(true);
    expect(seen.map((each) => [...new Set(each)])).toEqual([[true], [false]]);
  });

  test('skip_verify is for the host itself: neither its token service nor its store', async () => {
    const [server, other] = [await serve(loaded(pair)), await serve(loaded(pair))];
    configure(server.host, `server = "${server.url}"\nskip_verify = true`);
    expect(await pull(server.host)).toBe(true);
    server.challenge = `Bearer realm="${other.url}/token"`;
    server.authorization = 'Bearer t';
    await expect(pull(server.host)).rejects.toThrow('is not trusted');
    server.authorization = undefined;
    redirect(server, other);
    await expect(pull(server.host)).rejects.toThrow('is not trusted');
    expect(other.requests).toEqual([]);
  });

  test("docker's layout without a hosts.toml works", async () => {
    const server = await serve({ ...loaded(pair), ca: readFileSync(authority.cert), requestCert: true });
    const directory = folder(server.host);
    copyFileSync(authority.cert, join(directory, 'ca.crt'));
    copyFileSync(clientPair.cert, join(directory, 'client.cert'));
    copyFileSync(clientPair.key, join(directory, 'client.key'));
    expect(await pull(server.host)).toBe(true);
  });

  test('a file that cannot be read, or is no certificate, is named', async () => {
    configure('r.example:1', 'ca = "gone.pem"');
    expect(() => registries.source('r.example:1/a')).toThrow(`Cannot read "${root}/r.example_1_/gone.pem"`);
    configure('s.example:1', `ca = "${clientPair.key}"`);
    expect(() => registries.source('s.example:1/a')).toThrow('it is no certificate in PEM');
  });
});

describe('hosts', () => {
  test('mirrors are asked in order and told whose they are, the registry last', async () => {
    const [first, second, server] = [await serve(), await serve(), await serve()];
    first.fault = (_, response) => {
      response.writeHead(503).end();
      return true;
    };
    const path = `/v2/team/app/blobs/${digest}?ns=${encodeURIComponent(server.host)}`;
    configure(server.host, `server = "${server.url}"\n[host."${first.url}"]\n[host."${second.url}/proxy"]`);
    second.fault = (request, response) => {
      sendBlob(request, response, second.blobs.get(digest));
      return true;
    };
    expect(await pull(server.host)).toBe(true);
    expect(first.requests.map(({ url }) => url)).toEqual([path]);
    expect(second.requests.map(({ url }) => url)).toEqual([`/proxy${path}`]);
    expect(server.requests).toEqual([]);
    second.fault = first.fault;
    expect(await pull(server.host)).toBe(true);
    expect(server.requests.map(({ url }) => url)).toEqual([`/v2/team/app/blobs/${digest}`]);
    // Left alone for a while.
    expect(first.requests.length).toBe(1);
  });

  test('a host that cannot pull is left out', async () => {
    const [mirror, server] = [await serve(), await serve()];
    const withMirror = (capability: string) =>
      `server = "${server.url}"\n[host."${mirror.url}"]\ncapabilities = ["${capability}"]`;
    configure(server.host, withMirror('resolve'));
    expect(await pull(server.host)).toBe(true);
    expect(mirror.requests).toEqual([]);
    configure('r.example:1', 'capabilities = ["push"]');
    expect(() => registries.source('r.example:1/a')).toThrow('no host with the capability "pull"');
  });

  test('a path that is overridden is taken as it is', async () => {
    const server = await serve();
    const seen: (string | undefined)[] = [];
    server.fault = (request, response) => {
      seen.push(request.url);
      sendBlob(request, response, server.blobs.get(digest));
      return true;
    };
    configure(server.host, `server = "${server.url}/odd/api"\noverride_path = true`);
    expect(await pull(server.host)).toBe(true);
    expect(seen).toEqual([`/odd/api/team/app/blobs/${digest}`]);
  });

  test('headers and passwords go to their host alone', async () => {
    const [server, store] = [await serve(), await serve()];
    server.challenge = 'Basic realm="r"';
    server.authorization = BASIC;
    redirect(server, store);
    configure(server.host, `server = "${server.url}"\n[header]\nX-Api-Key = "hunter3"`);
    expect(await pull(server.host)).toBe(true);
    expect(server.requests.map(({ headers }) => headers['x-api-key'])).toEqual(['hunter3', 'hunter3']);
    expect(server.requests.at(-1)?.headers.authorization).toBe(BASIC);
    expect(store.requests.length).toBe(1);
    expect(store.requests[0]?.headers).not.toHaveProperty('x-api-key');
    expect(store.requests[0]?.headers).not.toHaveProperty('authorization');
  });

  test('_default is for registries without a folder of their own, and the configuration goes before all', async () => {
    const [mirror, one, two] = [await serve(), await serve(), await serve()];
    writeFileSync(join(folder('_default'), 'hosts.toml'), `[host."${mirror.url}"]`);
    configure(two.host, '');
    expect(await pull(one.host)).toBe(true);
    expect(mirror.requests[0]?.url).toContain(`ns=${encodeURIComponent(one.host)}`);
    expect(await pull(two.host)).toBe(true);
    expect(mirror.requests.length).toBe(1);
    const own = new Registries({ hosts: { [one.host]: {} }, hostsDirs: [root], credentials: login });
    const bytes = own
      .source(`${one.host}/a:1`)
      .read({ digest, dataLayer: undefined }, 0, 10, AbortSignal.timeout(9_000));
    for await (const part of bytes) expect(part.byteLength).toBe(10);
    await own.close();
    expect(mirror.requests.length).toBe(1);
    expect(one.requests.length).toBe(1);
  });

  test('a change is seen after ten seconds', () => {
    let now = 0;
    const directories = new HostDirectories([root], () => now);
    const bases = () => directories.hostsOf('r.example:1', ['pull'])?.map(({ base }) => base.href);
    expect(bases()).toBeUndefined();
    configure('r.example:1', '[host."https://m.example"]');
    now = 9_999;
    expect(bases()).toBeUndefined();
    now = 10_000;
    expect(bases()).toEqual(['https://m.example/v2/', 'https://r.example:1/v2/']);
  });
});
