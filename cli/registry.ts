import { homedir } from 'node:os';
import { join } from 'node:path';
import {
  CredentialStore,
  type Credentials,
  type Platform,
  type Reference,
  RegistryClient,
} from '../checkpoint/registry/index.ts';

/** The registries that one command talks to, each with one client and the credentials of `docker login`. */
export class Registries {
  readonly #plainHttp: boolean;
  readonly #credentials: CredentialStore;
  readonly #clients = new Map<string, RegistryClient>();

  constructor(plainHttp: boolean, env: Readonly<Record<string, string | undefined>>) {
    this.#plainHttp = plainHttp;
    this.#credentials = new CredentialStore({
      dockerConfig: { path: dockerConfigPath(env), required: false },
      environment: env,
    });
  }

  client(registry: string): RegistryClient {
    const known = this.#clients.get(registry);
    if (known) return known;
    const made = new RegistryClient({
      registry,
      credentials: (request) => this.#credentials.find(request),
      // Not said is not the same as no: a registry on this machine is reached without TLS by itself.
      ...(this.#plainHttp ? { plainHttp: true } : {}),
    });
    this.#clients.set(registry, made);
    return made;
  }

  async close(): Promise<void> {
    this.#credentials.close();
    for (const client of this.#clients.values()) await client.close();
    this.#clients.clear();
  }

  /** Of `docker login`, for a program that logs in itself. */
  credentials({
    registry,
    repository,
  }: Pick<Reference, 'registry' | 'repository'>): Promise<Credentials | undefined> {
    return this.#credentials.find({ registry, repository, refused: [] });
  }
}

function dockerConfigPath(env: Readonly<Record<string, string | undefined>>): string {
  return join(env['DOCKER_CONFIG'] || join(env['HOME'] || homedir(), '.docker'), 'config.json');
}

/** What this machine runs, in Go's words. */
export function hostPlatform(nodeArch: string = process.arch): Platform {
  return { os: 'linux', architecture: nodeArch === 'x64' ? 'amd64' : nodeArch };
}
