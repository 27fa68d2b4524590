/** Two registries that misbehave as they are told, for each test of a file, and clients that end with it. */
import { afterEach, beforeEach } from 'vitest';
import { RegistryClient } from './client.ts';
import { type Credentials, type FindCredentials, isRefused } from './credentials.ts';
import { FaultServer } from './fault-server.test-helper.ts';
import type { RegistryOptions } from './session.ts';

/** Of the test that runs. */
export let server: FaultServer;
export let other: FaultServer;
const clients: RegistryClient[] = [];

/** Called once by a file, at its top. */
export function useTwoRegistries(): void {
  beforeEach(async () => {
    server = await FaultServer.start();
    other = await FaultServer.start();
  });
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.close()));
    await Promise.all([server, other].map((each) => each.stop()));
  });
}

/** A client of the first one, which tries again at once and gives up soon. */
export function connect(over: Partial<RegistryOptions> = {}): RegistryClient {
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
export function fixed(...list: Credentials[]): FindCredentials {
  return async ({ refused }) => list.find((each) => !isRefused(each, refused));
}

export async function all(parts: AsyncIterable<Buffer>): Promise<Buffer> {
  const list: Buffer[] = [];
  for await (const part of parts) list.push(Buffer.from(part));
  return Buffer.concat(list);
}
