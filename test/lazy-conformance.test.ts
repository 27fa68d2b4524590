/** What containerd demands of a snapshotter, where every snapshot lies on lazy layers: layers that show nothing, as the topmost hides all below. */
import { afterAll, beforeAll, describe } from 'vitest';
import { type Info, SnapshotsClient } from './conformance/snapshots-client.ts';
import { type Subject, snapshotterSuite } from './conformance/snapshotter-suite.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import { image, privateDir, push, Registry } from './lib/index.ts';
import {
  convertLazily,
  emptyLayer,
  type LazyImage,
  oddLayer,
  pullLazily,
  readLazyImage,
} from './lib/odd-layers.ts';

const REPOSITORY = 'test/below';

let registry: Registry;
let lazy: LazyImage;

beforeAll(async () => {
  registry = await Registry.start();
  const layers = [oddLayer(), emptyLayer()];
  const source = await push(registry.host, REPOSITORY, 'plain', image(layers, { cmd: ['sh'] }));
  await convertLazily(source, `${registry.host}/${REPOSITORY}:lazy`, privateDir('convert'));
  lazy = await readLazyImage(registry.host, REPOSITORY, 'lazy');
});
afterAll(() => registry.stop());

/** Whoever wants no parent gets the lazy layers, and hears nothing of them. */
class OnLazyLayers extends SnapshotsClient {
  chains: readonly string[] = [];

  get #top(): string {
    return this.chains.at(-1) ?? '';
  }
  #below(parent: string): string {
    return parent === '' ? this.#top : parent;
  }
  #hidden(info: Info): Info {
    return info.parent === this.#top ? { ...info, parent: '' } : info;
  }

  override prepare(key: string, parent: string, labels: Record<string, string> = {}) {
    return super.prepare(key, this.#below(parent), labels);
  }
  override view(key: string, parent: string, labels: Record<string, string> = {}) {
    return super.view(key, this.#below(parent), labels);
  }
  override async stat(key: string): Promise<Info> {
    return this.#hidden(await super.stat(key));
  }
  override async update(info: Pick<Info, 'name' | 'parent' | 'labels'>, ...paths: string[]): Promise<Info> {
    return this.#hidden(await super.update(info, ...paths));
  }
  override walk(visit: (info: Info) => void | Promise<void>, ...filters: string[]): Promise<number[]> {
    const seen = (info: Info) => (this.chains.includes(info.name) ? undefined : visit(this.#hidden(info)));
    return super.walk(seen, ...filters);
  }
}

describe('thaw-snapshotter as containerd demands, on lazy layers', () => {
  snapshotterSuite(async (): Promise<Subject> => {
    const thaw = await ThawDaemon.start();
    const puller = new SnapshotsClient(thaw.socket);
    const chains = await pullLazily(puller, lazy, `${registry.host}/${REPOSITORY}:lazy`);
    const client = new OnLazyLayers(thaw.socket);
    client.chains = chains;
    return {
      client,
      work: privateDir('work'),
      close: async () => {
        client.close();
        // As a test leaves it: whatever lies on the layers goes first.
        for (let left = await puller.list(); left.length > 0; left = await puller.list()) {
          const parents = new Set(left.map(({ parent }) => parent));
          for (const { name } of left) if (!parents.has(name)) await puller.remove(name);
        }
        puller.close();
        await thaw.stop();
      },
    };
  });
});
