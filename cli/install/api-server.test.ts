import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type ApiServer,
  apiServer,
  type DaemonSetState,
  daemonSetState,
  labelNode,
  wasDeleted,
} from './api-server.ts';

/** A fake API server: the real one needs a cluster. */
let server: Server;
let api: ApiServer;
let answer: { status: number; body: unknown };
let asked: { url: string | undefined; authorization: string | undefined };
let sent: string;

beforeAll(async () => {
  server = createServer(async (request, response) => {
    sent = '';
    for await (const part of request) sent += String(part);
    asked = { url: request.url, authorization: request.headers.authorization };
    response.writeHead(answer.status).end(JSON.stringify(answer.body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  api = { url: `http://127.0.0.1:${port}`, token: async () => 'secret', ca: undefined };
});
afterAll(() => new Promise((resolve) => server.close(resolve)));

it.each([
  [true, 'true'],
  [false, null],
])('labels its node, and takes the label away: %s', async (isReady, value) => {
  answer = { status: 200, body: {} };
  await labelNode(api, 'node-1', isReady);
  expect(asked).toEqual({ url: '/api/v1/nodes/node-1', authorization: 'Bearer secret' });
  expect(JSON.parse(sent)).toEqual({ metadata: { labels: { 'thaw.dev/ready': value } } });
});

it('says why a node cannot be labelled', async () => {
  answer = { status: 403, body: {} };
  await expect(labelNode(api, 'node-1', true)).rejects.toThrow(
    'Cannot label the node node-1: the API server answered 403',
  );
  await expect(labelNode(undefined, 'node-1', true)).rejects.toThrow('there is no API server');
  await expect(labelNode({ ...api, url: 'http://127.0.0.1:1' }, 'node-1', true)).rejects.toThrow(
    'ECONNREFUSED',
  );
});

describe('a DaemonSet', () => {
  it.each([
    [200, { metadata: {} }, 'there'],
    [200, { metadata: { deletionTimestamp: '2026-11-26T00:00:00Z' } }, 'deleted'],
    [404, {}, 'deleted'],
    [403, {}, 'refused'],
    [401, {}, 'refused'],
    [500, {}, 'unknown'],
  ])('of which the API server says %i %j is %s', async (status, body, kind) => {
    answer = { status, body };
    expect((await daemonSetState(api, 'thaw-system', 'thaw-installer')).kind).toBe(kind);
    expect(asked).toEqual({
      url: '/apis/apps/v1/namespaces/thaw-system/daemonsets/thaw-installer',
      authorization: 'Bearer secret',
    });
  });
  it('cannot be seen where nobody answers', async () => {
    const state = await daemonSetState({ ...api, url: 'http://127.0.0.1:1' }, 'a', 'b');
    expect(state.kind).toBe('unknown');
    expect(await apiServer({})).toBeUndefined();
    expect(await daemonSetState(undefined, 'a', 'b')).toMatchObject({ kind: 'unknown' });
  });
  it('has the address of the environment', async () => {
    const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };
    expect((await apiServer(env, '/nonexistent'))?.url).toBe('https://[fd00::1]:443');
  });
  it.each<[DaemonSetState['kind'], DaemonSetState['kind'], boolean]>([
    ['there', 'there', false],
    ['there', 'deleted', true],
    ['there', 'refused', true],
    ['there', 'unknown', false],
    ['refused', 'refused', false],
    ['unknown', 'deleted', false],
  ])('that was %s and is %s now was deleted: %s', (before, now, is) => {
    const state = (kind: DaemonSetState['kind']): DaemonSetState =>
      kind === 'unknown' ? { kind, why: '' } : { kind };
    expect(wasDeleted(state(before), state(now))).toBe(is);
  });
});
