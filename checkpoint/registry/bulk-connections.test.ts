import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { seeded } from '../random.test-helper.ts';
import { BulkConnections, type BulkResponse, HeadTimeout } from './bulk-connections.ts';
import { Authority, loaded } from './certificates.test-helper.ts';
import { connectorFor } from './endpoint.ts';

const data = seeded(3).bytes(3_000_000);
const closing: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function listen(server: Server | TcpServer): Promise<number> {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  closing.push(() => new Promise((done) => server.close(done)));
  return (server.address() as AddressInfo).port;
}

function connections(base: URL, ca: string[] = []): BulkConnections {
  const endpoint = { base, ca, client: [], skipVerify: false };
  const bulk = new BulkConnections((onread) => connectorFor(endpoint, onread));
  closing.unshift(async () => bulk.close());
  return bulk;
}

async function http(handle: (request: IncomingMessage, response: ServerResponse) => void) {
  const sockets = new Set<number>();
  const server = createServer((request, response) => {
    sockets.add(request.socket.remotePort ?? 0);
    handle(request, response);
  });
  const url = new URL(`http://127.0.0.1:${await listen(server)}/blob?x=y`);
  closing.unshift(async () => server.closeAllConnections());
  return { url, sockets, bulk: connections(url) };
}

async function read({ body }: BulkResponse): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of body) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

/** So that both buffers are full again and again. */
async function readSlowly({ body }: BulkResponse): Promise<void> {
  let at = 0;
  for await (const part of body) {
    const copy = Buffer.from(part);
    await sleep(3);
    // Nothing lands in a part that is in use.
    expect(part.equals(copy)).toBe(true);
    expect(part.equals(data.subarray(at, at + part.length))).toBe(true);
    at += part.length;
  }
  expect(at).toBe(data.length);
}

const get = (bulk: BulkConnections, url: URL, signal?: AbortSignal) =>
  bulk.get(url, { a: 'b' }, 2_000, signal);

describe('a body', () => {
  it('comes as it was sent, however slowly it is taken, and the connection is used again', async () => {
    const asked: unknown[] = [];
    const { url, sockets, bulk } = await http(({ method, url: path, headers }, response) => {
      asked.push([method, path, headers['a']]);
      response.writeHead(206, { 'content-length': data.length }).end(data);
    });
    for (let i = 0; i < 3; i++) expect((await read(await get(bulk, url))).equals(data)).toBe(true);
    const response = await get(bulk, url);
    expect(response.head.status).toBe(206);
    await readSlowly(response);
    expect(asked).toEqual(Array(4).fill(['GET', '/blob?x=y', 'b']));
    expect(sockets.size).toBe(1);
  });

  it('comes through TLS, also where the authority is known only here', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'thaw-bulk-'));
    closing.push(() => rm(dir, { recursive: true }));
    const authority = new Authority(dir, 'authority');
    const server = createTlsServer(loaded(authority.issue('server')), (_, response) =>
      response.writeHead(200, { 'content-length': data.length }).end(data),
    );
    const url = new URL(`https://127.0.0.1:${await listen(server)}/`);
    closing.unshift(async () => server.closeAllConnections());
    const bulk = connections(url, [await readFile(authority.cert, 'utf8')]);
    for (let i = 0; i < 2; i++) expect((await read(await get(bulk, url))).equals(data)).toBe(true);
    await readSlowly(await get(bulk, url));
    await expect(get(connections(url), url)).rejects.toMatchObject({
      code: expect.stringMatching(/SIGNED|ISSUER|VERIFY/),
    });
  });

  it('may be in chunks, or go on to the end of the connection', async () => {
    const { url, sockets, bulk } = await http((request, response) => {
      const chunked = request.url === '/chunked';
      if (!chunked) response.useChunkedEncodingByDefault = false;
      response.writeHead(200, chunked ? {} : { connection: 'close' });
      for (let at = 0; at < data.length; at += 70_001) response.write(data.subarray(at, at + 70_001));
      response.end();
    });
    for (let i = 0; i < 2; i++)
      expect((await read(await get(bulk, new URL('/chunked', url)))).equals(data)).toBe(true);
    expect(sockets.size).toBe(1);
    expect((await read(await get(bulk, new URL('/closed', url)))).equals(data)).toBe(true);
  });

  it('that nobody wants to the end, or that is cut off, costs its connection', async () => {
    let cut = false;
    const { url, sockets, bulk } = await http((_, response) => {
      response.writeHead(200, { 'content-length': data.length });
      if (cut) response.write(data.subarray(0, 1000), () => response.destroy());
      else response.end(data);
    });
    for await (const _ of (await get(bulk, url)).body) break;
    (await get(bulk, url)).body.destroy();
    cut = true;
    await expect(read(await get(bulk, url))).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(sockets.size).toBe(3);
  });

  it('ends with the signal of its request', async () => {
    const { url, bulk } = await http((_, response) => {
      response.writeHead(200, { 'content-length': data.length });
      response.write(data.subarray(0, 1000));
    });
    const abort = new AbortController();
    const response = await get(bulk, url, abort.signal);
    setTimeout(() => abort.abort(new Error('enough')), 50);
    await expect(read(response)).rejects.toThrow('enough');
    await expect(get(bulk, url, abort.signal)).rejects.toThrow('enough');
  });
});

describe('an answer', () => {
  it('that does not come in time is not waited for', async () => {
    const { url, bulk } = await http(() => {});
    await expect(bulk.get(url, {}, 100, undefined)).rejects.toBeInstanceOf(HeadTimeout);
  });

  it('of several heads has the last one count', async () => {
    const { url, bulk } = await http((_, response) => {
      response.writeEarlyHints({ link: '</x>; rel=preload' });
      response.writeHead(404, { 'content-length': 2 }).end('no');
    });
    const response = await get(bulk, url);
    expect(response.head.status).toBe(404);
    expect((await read(response)).toString()).toBe('no');
  });
});

describe('a kept connection', () => {
  /** Answers each request on a connection with the next of these, then ends it. */
  async function scripted(answers: readonly string[]) {
    let opened = 0;
    const server = createTcpServer((socket) => {
      opened += 1;
      let n = 0;
      socket.on('error', () => {});
      socket.on('data', () => {
        const answer = answers[n++];
        if (answer === undefined) socket.destroy();
        else socket.write(answer);
      });
    });
    const url = new URL(`http://127.0.0.1:${await listen(server)}/`);
    return { url, bulk: connections(url), opened: () => opened };
  }
  const ok = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';

  it('that the server ends meanwhile is followed by another', async () => {
    const { url, bulk, opened } = await scripted([ok]);
    for (let i = 0; i < 3; i++) expect((await read(await get(bulk, url))).toString()).toBe('ok');
    expect(opened()).toBe(3);
  });

  it('that had more to say than its answer is not trusted with another', async () => {
    const { url, bulk, opened } = await scripted([
      `${ok}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil`,
      ok,
    ]);
    for (let i = 0; i < 2; i++) expect((await read(await get(bulk, url))).toString()).toBe('ok');
    expect(opened()).toBe(2);
  });

  it('is not asked twice for what it answered in part', async () => {
    const { url, bulk, opened } = await scripted([ok, 'HTTP/1.1 200']);
    expect((await read(await get(bulk, url))).toString()).toBe('ok');
    await expect(bulk.get(url, {}, 200, undefined)).rejects.toBeInstanceOf(HeadTimeout);
    expect(opened()).toBe(1);
  });
});
