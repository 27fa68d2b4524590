import { homedir } from 'node:os';
import { join } from 'node:path';
import {
  accessTo,
  type Capability,
  HostDirectories,
  MIRROR_PATIENCE,
} from '../checkpoint/registry/hosts/index.ts';
import {
  CredentialStore,
  type Credentials,
  type Platform,
  type Reference,
  RegistryClient,
  type RegistryOptions,
} from '../checkpoint/registry/index.ts';

export interface RegistryAccess {
  /** HTTP without TLS, whatever `hostsDir` says. */
  plainHttp: boolean;
  /** containerd's folder of `HOST/hosts.toml`. */
  hostsDir?: string | undefined;
}

/** The registries that one command talks to, each with one client and the credentials of `docker login`. */
export class Registries {
  readonly #plainHttp: boolean;
  readonly #directories: HostDirectories;
  readonly #credentials: CredentialStore;
  readonly #clients = new Map<string, RegistryClient>();

  constructor({ plainHttp, hostsDir }: RegistryAccess, env: Readonly<Record<string, string | undefined>>) {
    this.#plainHttp = plainHttp;
    this.#directories = new HostDirectories(hostsDir === undefined || plainHttp ? [] : [hostsDir]);
    this.#credentials = new CredentialStore({
      dockerConfig: { path: dockerConfigPath(env), required: false },
      environment: env,
    });
  }

  /** Where images of a registry are pushed to. */
  client(registry: string): RegistryClient {
    const [first] = this.#hosts(registry, ['push']);
    return first ?? this.#client({ registry });
  }

  /** With each mirror and then the registry, until one can do it. */
  async reading<T>(
    registry: string,
    signal: AbortSignal,
    read: (client: RegistryClient) => Promise<T>,
  ): Promise<T> {
    const hosts = this.#hosts(registry, ['pull', 'resolve']);
    for (const mirror of hosts.slice(0, -1)) {
      try {
        return await read(mirror);
      } catch (error) {
        if (signal.aborted) throw error;
      }
    }
    return read(hosts.at(-1) ?? this.#client({ registry }));
  }

  #hosts(registry: string, needed: readonly Capability[]): RegistryClient[] {
    const hosts = this.#directories.hostsOf(registry, needed) ?? [];
    return hosts.map((endpoint, at) =>
      this.#client({
        ...accessTo(registry, endpoint),
        ...(at < hosts.length - 1 ? MIRROR_PATIENCE : {}),
      }),
    );
  }

  #client(options: RegistryOptions): RegistryClient {
    const key = JSON.stringify(options);
    const known = this.#clients.get(key);
    if (known) return known;
    const made = new RegistryClient({
      ...options,
      credentials: (request) => this.#credentials.find(request),
      // Not said is not the same as no: a registry on this machine is reached without TLS by itself.
      ...(this.#plainHttp ? { plainHttp: true } : {}),
    });
    this.#clients.set(key, made);
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
