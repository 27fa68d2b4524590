/** A client of containerd's Snapshots service, for a snapshotter directly or for one of containerd's own. */
import {
  type Client,
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { loadService } from '../../snapshotter/grpc/clients.ts';
import { fromTimestamp, type InfoMessage } from '../../snapshotter/grpc/messages.ts';
import { SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE } from '../../snapshotter/grpc/proto-files.ts';
import type { Mount } from '../../snapshotter/overlay/index.ts';

export type Kind = 'unknown' | 'view' | 'active' | 'committed';
const KINDS: readonly Kind[] = ['unknown', 'view', 'active', 'committed'];

export interface Info {
  name: string;
  parent: string;
  kind: Kind;
  created: bigint;
  updated: bigint;
  labels: Record<string, string>;
}

type Labels = Record<string, string>;
type Method = (
  request: object,
  metadata: Metadata,
  options: { deadline: number },
  callback: (error: ServiceError | null, response: unknown) => void,
) => void;

const DEADLINE_MS = 30_000;

export class SnapshotsClient {
  readonly #client: Client;
  readonly #snapshotter: string;
  readonly #namespace: string;

  constructor(socket: string, options: { snapshotter?: string; namespace?: string } = {}) {
    const Service = loadService(SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE);
    // A connection of its own: grpc-js would share one among all clients of a process.
    this.#client = new Service(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
    this.#snapshotter = options.snapshotter ?? '';
    this.#namespace = options.namespace ?? 'testsuite';
  }

  /** May be called twice. */
  close(): void {
    this.#client.close();
  }

  async prepare(key: string, parent: string, labels: Labels = {}): Promise<Mount[]> {
    return (await this.#call<{ mounts: Mount[] }>('Prepare', { key, parent, labels })).mounts;
  }
  async view(key: string, parent: string, labels: Labels = {}): Promise<Mount[]> {
    return (await this.#call<{ mounts: Mount[] }>('View', { key, parent, labels })).mounts;
  }
  async mounts(key: string): Promise<Mount[]> {
    return (await this.#call<{ mounts: Mount[] }>('Mounts', { key })).mounts;
  }
  async commit(name: string, key: string, labels: Labels = {}, parent?: string): Promise<void> {
    await this.#call('Commit', { name, key, labels, ...(parent === undefined ? {} : { parent }) });
  }
  async remove(key: string): Promise<void> {
    await this.#call('Remove', { key });
  }
  /** Children before their parents. `kept` stay; they lie on each other alone. */
  async removeAll(kept: readonly string[] = []): Promise<void> {
    const found = (await this.list()).filter(({ name }) => !kept.includes(name));
    const left = new Map(found.map(({ name, parent }) => [name, parent]));
    while (left.size > 0) {
      const parents = new Set(left.values());
      for (const name of [...left.keys()].filter((each) => !parents.has(each))) {
        await this.remove(name);
        left.delete(name);
      }
    }
    await this.cleanup();
  }
  async stat(key: string): Promise<Info> {
    return toInfo((await this.#call<{ info: InfoMessage }>('Stat', { key })).info);
  }
  /** `info` as a client has it: also fields that cannot change. */
  async update(info: Pick<Info, 'name' | 'parent' | 'labels'>, ...paths: string[]): Promise<Info> {
    const updateMask = paths.length > 0 ? { paths } : null;
    return toInfo((await this.#call<{ info: InfoMessage }>('Update', { info, updateMask })).info);
  }
  async usage(key: string): Promise<{ size: bigint; inodes: bigint }> {
    const { size, inodes } = await this.#call<{ size: string; inodes: string }>('Usage', { key });
    return { size: BigInt(size), inodes: BigInt(inodes) };
  }
  async cleanup(): Promise<void> {
    await this.#call('Cleanup', {});
  }

  /** Calls `visit` while the stream is open. */
  async walk(visit: (info: Info) => void | Promise<void>, ...filters: string[]): Promise<number[]> {
    const list = (this.#client as unknown as Record<string, unknown>)['List'] as (
      request: object,
      metadata: Metadata,
      options: { deadline: number },
    ) => ClientReadableStream<{ info: InfoMessage[] }>;
    const stream = list.call(this.#client, { snapshotter: this.#snapshotter, filters }, this.#metadata(), {
      deadline: Date.now() + DEADLINE_MS,
    });
    const batches: number[] = [];
    for await (const { info } of stream as AsyncIterable<{ info: InfoMessage[] }>) {
      batches.push(info.length);
      for (const message of info) await visit(toInfo(message));
    }
    return batches;
  }

  async list(...filters: string[]): Promise<Info[]> {
    const found: Info[] = [];
    await this.walk(
      (info) => {
        found.push(info);
      },
      ...filters,
    );
    return found;
  }

  #metadata(): Metadata {
    const metadata = new Metadata();
    metadata.set('containerd-namespace', this.#namespace);
    return metadata;
  }

  #call<Response = unknown>(name: string, request: object): Promise<Response> {
    const method = (this.#client as unknown as Record<string, Method>)[name] as Method;
    return new Promise((resolve, reject) => {
      method.call(
        this.#client,
        { snapshotter: this.#snapshotter, ...request },
        this.#metadata(),
        { deadline: Date.now() + DEADLINE_MS },
        (error, response) => (error ? reject(error) : resolve(response as Response)),
      );
    });
  }
}

function toInfo(message: InfoMessage): Info {
  const time = (value: InfoMessage['createdAt']) => (value ? fromTimestamp(value) : 0n);
  return {
    name: message.name,
    parent: message.parent,
    kind: KINDS[message.kind] ?? 'unknown',
    created: time(message.createdAt),
    updated: time(message.updatedAt),
    labels: { ...message.labels },
  };
}
