/** Registries as sources of checkpoint layers: one client, and so one set of connections and tokens, for each host. */
import { readFileSync } from 'node:fs';
import {
  type Credentials,
  credentialsFromDockerConfig,
  parseReference,
  RegistryClient,
} from '../../checkpoint/registry/index.ts';
import type { BlobName, BlobSource, SourceSpec } from '../cache/index.ts';

export interface RegistriesOptions {
  /** For a host as in a reference; undefined: HTTPS, but plain HTTP on this machine. */
  plainHttp: (registry: string) => boolean | undefined;
  /** A docker config.json with credentials. */
  dockerConfig: string | undefined;
}

export class Registries {
  readonly #options: RegistriesOptions;
  readonly #clients = new Map<string, RegistryClient>();

  constructor(options: RegistriesOptions) {
    this.#options = options;
  }

  /** INVALID_ARGUMENT for something that is no image reference, or credentials that cannot be read. */
  source(imageRef: string): BlobSource {
    const { registry, repository } = parseReference(imageRef);
    return new RegistrySource(imageRef, this.#client(registry), repository);
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#clients.values()].map((client) => client.close()));
    this.#clients.clear();
  }

  #client(registry: string): RegistryClient {
    const known = this.#clients.get(registry);
    if (known) return known;
    const plainHttp = this.#options.plainHttp(registry);
    const client = new RegistryClient({
      registry,
      credentials: this.#credentials(registry),
      ...(plainHttp === undefined ? {} : { plainHttp }),
    });
    this.#clients.set(registry, client);
    return client;
  }

  #credentials(registry: string): Credentials | undefined {
    const { dockerConfig } = this.#options;
    return dockerConfig === undefined
      ? undefined
      : credentialsFromDockerConfig(readFileSync(dockerConfig, 'utf8'), registry);
  }
}

class RegistrySource implements BlobSource {
  readonly kind = 'remote';
  readonly description: string;
  readonly #client: RegistryClient;
  readonly #repository: string;

  constructor(description: string, client: RegistryClient, repository: string) {
    this.description = description;
    this.#client = client;
    this.#repository = repository;
  }

  get spec(): SourceSpec {
    return { kind: 'image', reference: this.description };
  }

  read({ digest }: BlobName, offset: number, length: number, signal: AbortSignal): AsyncIterable<Uint8Array> {
    return this.#client.readRange(this.#repository, digest, offset, length, { signal });
  }
}
