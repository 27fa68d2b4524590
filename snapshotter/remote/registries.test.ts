import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CredentialStore } from '../../checkpoint/registry/index.ts';
import { Code } from '../../proto/status.ts';
import { fakeCheckpoint } from '../fake-checkpoint.test-helper.ts';
import { fetchIndex } from './index-fetch.ts';
import { Registries } from './registries.ts';

const checkpoint = fakeCheckpoint([[{ name: 'a', size: 3, chunks: [{ at: 0, bytes: Buffer.from('abc') }] }]]);

const nobody = async () => undefined;

let dir: string;
let server: Server;
let host: string;
/** What the registry answers instead of the blob. */
let status: number;
let seen: { range: string | undefined; authorization: string | undefined }[];
let registries: Registries;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-registries-'));
  mkdirSync(join(dir, 'docker'));
  status = 206;
  seen = [];
  server = createServer((request, response) => {
    const { range, authorization } = request.headers;
    seen.push({ range, authorization });
    const letIn = status === 401 && authorization !== undefined;
    if (status !== 206 && !letIn)
      return response
        .writeHead(status, status === 401 ? { 'www-authenticate': 'Basic realm="r"' } : {})
        .end();
    const blob = checkpoint.blobs.get(request.url?.split('/').at(-1) ?? '') ?? Buffer.alloc(0);
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
    response.writeHead(206, { 'content-range': `bytes ${from}-${to}/${blob.length}` });
    return response.end(blob.subarray(Number(from), Number(to) + 1));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  registries = new Registries({ credentials: nobody });
});
afterEach(async () => {
  await registries.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(dir, { recursive: true });
});

const fetchFrom = (source = registries.source(`${host}/team/app:1`), ms = 10_000) =>
  fetchIndex(source, checkpoint.location, AbortSignal.timeout(ms));

test('the index and checkpoint.json come with one range request', async () => {
  const { indexBytes, checkpointJson } = await fetchFrom();
  expect(Buffer.from(indexBytes).equals(checkpoint.indexBytes)).toBe(true);
  expect(Buffer.from(checkpointJson).equals(checkpoint.checkpointJson)).toBe(true);
  const { offset, length } = checkpoint.location;
  expect(seen.map(({ range }) => range)).toEqual([`bytes=0-${offset + length - 1}`]);
});

test.each([
  [404, Code.notFound, 10_000],
  [401, Code.unauthenticated, 10_000],
  [403, Code.permissionDenied, 10_000],
  // Worth another try, for as long as there is time.
  [500, Code.deadlineExceeded, 600],
])('a registry that answers %i is an error that says so', async (answer, code, ms) => {
  status = answer;
  await expect(fetchFrom(registries.source(`${host}/team/app:1`), ms)).rejects.toMatchObject({ code });
});

test('a registry that is not there is an error in time', async () => {
  const gone = await new Promise<string>((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(`127.0.0.1:${port}`));
    });
  });
  await expect(fetchFrom(registries.source(`${gone}/team/app:1`), 600)).rejects.toMatchObject({
    code: Code.deadlineExceeded,
  });
});

test('credentials come from the docker configuration, for their host alone', async () => {
  const path = join(dir, 'config.json');
  const auth = Buffer.from('user:secret').toString('base64');
  writeFileSync(path, JSON.stringify({ auths: { [host]: { auth }, 'other.example': { auth } } }));
  const store = new CredentialStore({ dockerConfig: { path, required: true }, environment: {} });
  const withCredentials = new Registries({
    credentials: (request) => store.find(request),
  });
  try {
    status = 401;
    await fetchFrom(withCredentials.source(`${host}/team/app:1`));
    expect(seen.at(-1)?.authorization).toBe(`Basic ${auth}`);
  } finally {
    await withCredentials.close();
  }
});

test('something that is no image reference is refused', () => {
  expect(() => registries.source('//x')).toThrow(expect.objectContaining({ code: Code.invalidArgument }));
});

test('a mirror is asked first and told whose it is; one that fails is left alone for a while', async () => {
  const bytes = checkpoint.blobs.get(checkpoint.location.blob) ?? Buffer.alloc(0);
  const asked: string[] = [];
  let breaks = false;
  const mirror = createServer((request, response) => {
    asked.push(request.url ?? '');
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    response.writeHead(206, { 'content-range': `bytes ${from}-${to}/${bytes.length}` });
    if (!breaks) return response.end(bytes.subarray(Number(from), Number(to) + 1));
    // After some bytes, which are not asked for again.
    response.write(bytes.subarray(Number(from), Number(from) + 100), () => response.destroy());
    return undefined;
  });
  await new Promise<void>((resolve) => mirror.listen(0, '127.0.0.1', resolve));
  const mirrorHost = `127.0.0.1:${(mirror.address() as AddressInfo).port}`;
  const mirrored = new Registries({
    hosts: { [host]: { mirrors: [mirrorHost] } },
    credentials: nobody,
  });
  try {
    await fetchFrom(mirrored.source(`${host}/team/app:1`));
    expect(asked).toEqual([`/v2/team/app/blobs/${checkpoint.location.blob}?ns=${encodeURIComponent(host)}`]);
    expect(seen).toEqual([]);
    breaks = true;
    await fetchFrom(mirrored.source(`${host}/team/app:1`));
    expect(seen.map(({ range }) => range?.replace(/-.*/, ''))).toEqual(['bytes=100']);
    await fetchFrom(mirrored.source(`${host}/team/app:1`));
    expect(asked.length).toBe(2);
    // Bytes that were wrong are asked of the registry itself.
    const source = mirrored.source(`${host}/team/app:2`);
    const again = source.read(
      { digest: checkpoint.location.blob, dataLayer: undefined },
      0,
      10,
      new AbortController().signal,
      true,
    );
    for await (const piece of again) expect(piece.byteLength).toBe(10);
    expect(asked.length).toBe(2);
  } finally {
    await mirrored.close();
    mirror.closeAllConnections();
    await new Promise((resolve) => mirror.close(resolve));
  }
});
