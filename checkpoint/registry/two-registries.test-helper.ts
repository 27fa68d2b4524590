/** Two registries that misbehave as they are told, for each test, and clients that end with it. */
import { RegistryClient } from './client.ts';
import { type Credentials, type FindCredentials, isRefused } from './credentials.ts';
import { FaultServer } from './fault-server.test-helper.ts';
import type { RegistryOptions } from './session.ts';

export class TwoRegistries {
  #servers: FaultServer[] = [];
  #clients: RegistryClient[] = [];

  async start(): Promise<{ server: FaultServer; other: FaultServer }> {
    const [server, other] = [await FaultServer.start(), await FaultServer.start()];
    this.#servers = [server, other];
    return { server, other };
  }

  /** A client of the first one, which tries again at once and gives up soon. */
  connect(over: Partial<RegistryOptions> = {}): RegistryClient {
    const client = new RegistryClient({
      registry: this.#servers[0]?.host ?? '',
      retry: { attempts: 3, baseMs: 1, maxMs: 2 },
      timeouts: { headersMs: 2000, readMs: 300, minBytes: 1000, commitMs: 300 },
      ...over,
    });
    this.#clients.push(client);
    return client;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#clients.splice(0).map((client) => client.close()));
    await Promise.all(this.#servers.splice(0).map((server) => server.stop()));
  }
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
