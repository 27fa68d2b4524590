/** Registries as sources of checkpoint layers: one client, and so one set of connections and tokens, for each host. */
import { accessTo, HostDirectories, MIRROR_PATIENCE } from '../../checkpoint/registry/hosts/index.ts';
import {
  type Endpoint,
  type FindCredentials,
  parseReference,
  RegistryClient,
} from '../../checkpoint/registry/index.ts';
import type { BlobName, BlobSource, SourceSpec } from '../cache/index.ts';

export interface RegistriesOptions {
  /** By host as in a reference: what the daemon's own configuration says of it, instead of `hostsDirs`. */
  hosts?: Readonly<Record<string, HostAccess>>;
  /** containerd's folders of hosts.toml files. */
  hostsDirs?: readonly string[];
  credentials: FindCredentials;
}

export interface HostAccess {
  /** Undefined: HTTPS, but plain HTTP on this machine. */
  plainHttp?: boolean | undefined;
  /** Hosts that are asked before the registry, in order. */
  mirrors?: readonly string[] | undefined;
}

export class Registries {
  readonly #options: RegistriesOptions;
  readonly #directories: HostDirectories;
  readonly #hosts = new Map<string, Host>();

  constructor(options: RegistriesOptions) {
    this.#options = options;
    this.#directories = new HostDirectories(options.hostsDirs ?? []);
  }

  /** INVALID_ARGUMENT for something that is no image reference, or a hosts.toml that cannot be used. */
  source(imageRef: string): BlobSource {
    const { registry, repository } = parseReference(imageRef);
    const own = this.#options.hosts?.[registry];
    const endpoints = own ? undefined : this.#directories.hostsOf(registry, ['pull']);
    const hosts = endpoints
      ? endpoints.map((endpoint, i) => this.#endpoint(registry, endpoint, i < endpoints.length - 1))
      : [
          ...(own?.mirrors ?? []).map((host) => this.#host({ registry: host, mirrorOf: registry }, true)),
          this.#host({ registry }, false),
        ];
    return new RegistrySource(imageRef, hosts, repository);
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#hosts.values()].map(({ client }) => client.close()));
    this.#hosts.clear();
  }

  #endpoint(registry: string, endpoint: Endpoint, isMirror: boolean): Host {
    return this.#host(accessTo(registry, endpoint), isMirror);
  }

  #host(
    access: { registry: string; mirrorOf?: string | undefined; endpoint?: Endpoint | undefined },
    isMirror: boolean,
  ): Host {
    // With the certificates in it: whoever changes one gets a new client.
    const key = JSON.stringify({ ...access, isMirror });
    const known = this.#hosts.get(key);
    if (known) return known;
    const plainHttp = this.#options.hosts?.[access.registry]?.plainHttp;
    const client = new RegistryClient({
      ...access,
      credentials: this.#options.credentials,
      ...(plainHttp === undefined ? {} : { plainHttp }),
      ...(isMirror ? MIRROR_PATIENCE : {}),
    });
    const host = { client, badUntil: 0 };
    this.#hosts.set(key, host);
    return host;
  }
}

interface Host {
  client: RegistryClient;
  /** Not asked before, in monotonic milliseconds: it failed, and another one can be asked. */
  badUntil: number;
}

const MIRROR_BAD_MS = 30_000;

class RegistrySource implements BlobSource {
  readonly kind = 'remote';
  readonly description: string;
  mirroredBytes = 0;
  readonly #mirrors: readonly Host[];
  readonly #origin: Host | undefined;
  readonly #repository: string;

  /** The last host is the registry itself: what others cannot do it must. */
  constructor(description: string, hosts: readonly Host[], repository: string) {
    this.description = description;
    this.#mirrors = hosts.slice(0, -1);
    this.#origin = hosts.at(-1);
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
          this.mirroredBytes += piece.byteLength;
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
    if (this.#origin) yield* this.#readFrom(this.#origin.client, digest, offset, length, signal);
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
