/** Registries as sources of checkpoint layers: one client, and so one set of connections and tokens, for each host. */
import {
  type FindCredentials,
  parseReference,
  RegistryClient,
  type RegistryOptions,
} from '../../checkpoint/registry/index.ts';
import type { BlobName, BlobSource, SourceSpec } from '../cache/index.ts';

export interface RegistriesOptions {
  /** For a host as in a reference; undefined: HTTPS, but plain HTTP on this machine. */
  plainHttp: (registry: string) => boolean | undefined;
  /** Hosts that are asked before the registry, in order. */
  mirrors?: (registry: string) => readonly string[];
  credentials: FindCredentials;
}

export class Registries {
  readonly #options: RegistriesOptions;
  readonly #clients = new Map<string, RegistryClient>();
  readonly #mirrors = new Map<string, Mirror>();

  constructor(options: RegistriesOptions) {
    this.#options = options;
  }

  /** INVALID_ARGUMENT for something that is no image reference. */
  source(imageRef: string): BlobSource {
    const { registry, repository } = parseReference(imageRef);
    const mirrors = this.#options.mirrors?.(registry) ?? [];
    return new RegistrySource(
      imageRef,
      mirrors.map((host) => this.#mirror(host, registry)),
      this.#client(registry),
      repository,
    );
  }

  async close(): Promise<void> {
    const clients = [...this.#clients.values(), ...[...this.#mirrors.values()].map(({ client }) => client)];
    await Promise.allSettled(clients.map((client) => client.close()));
    this.#clients.clear();
    this.#mirrors.clear();
  }

  #client(registry: string): RegistryClient {
    const known = this.#clients.get(registry);
    if (known) return known;
    const client = new RegistryClient(this.#access(registry));
    this.#clients.set(registry, client);
    return client;
  }

  #mirror(host: string, mirrorOf: string): Mirror {
    const key = `${host} of ${mirrorOf}`;
    const known = this.#mirrors.get(key);
    if (known) return known;
    const client = new RegistryClient({
      ...this.#access(host),
      mirrorOf,
      retry: { attempts: 1 },
      timeouts: { headersMs: MIRROR_MS, readMs: MIRROR_MS },
    });
    const mirror = { client, badUntil: 0 };
    this.#mirrors.set(key, mirror);
    return mirror;
  }

  #access(registry: string): RegistryOptions {
    const plainHttp = this.#options.plainHttp(registry);
    return {
      registry,
      credentials: this.#options.credentials,
      ...(plainHttp === undefined ? {} : { plainHttp }),
    };
  }
}

interface Mirror {
  client: RegistryClient;
  /** Not asked before, in monotonic milliseconds: it failed. */
  badUntil: number;
}

/** A mirror that does not answer in this time is left for the registry. */
const MIRROR_MS = 10_000;
const MIRROR_BAD_MS = 30_000;

class RegistrySource implements BlobSource {
  readonly kind = 'remote';
  readonly description: string;
  readonly #mirrors: readonly Mirror[];
  readonly #client: RegistryClient;
  readonly #repository: string;

  constructor(description: string, mirrors: readonly Mirror[], client: RegistryClient, repository: string) {
    this.description = description;
    this.#mirrors = mirrors;
    this.#client = client;
    this.#repository = repository;
  }

  get spec(): SourceSpec {
    return { kind: 'image', reference: this.description };
  }

  async *read(
    { digest }: BlobName,
    offset: number,
    length: number,
    signal: AbortSignal,
    again = false,
  ): AsyncGenerator<Uint8Array> {
    let done = 0;
    const usable = this.#mirrors.filter(({ badUntil }) => performance.now() >= badUntil);
    for (const mirror of again ? [] : usable) {
      try {
        const parts = this.#readFrom(mirror.client, digest, offset, length, signal);
        for await (const piece of parts) {
          done += piece.byteLength;
          yield piece;
        }
        return;
      } catch (error) {
        if (signal.aborted) throw error;
        mirror.badUntil = performance.now() + MIRROR_BAD_MS;
        // What came is kept; the next one sends the rest.
        offset += done;
        length -= done;
        done = 0;
      }
    }
    yield* this.#readFrom(this.#client, digest, offset, length, signal);
  }

  #readFrom(
    client: RegistryClient,
    digest: string,
    offset: number,
    length: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    return client.readRange(this.#repository, digest, offset, length, { signal });
  }
}
