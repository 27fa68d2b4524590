/** What containerd demands of a snapshotter, where every snapshot lies on lazy layers: layers that show nothing, as the topmost hides all below. */
import { afterAll, beforeAll, describe } from 'vitest';
import { type Info, SnapshotsClient } from './conformance/snapshots-client.ts';
import { type Subject, snapshotterSuite } from './conformance/snapshotter-suite.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import { image, privateDir, push, Registry } from './lib/index.ts';
import { convertLazily, emptyLayer, oddLayer, pullLazily, readLazyImage } from './lib/odd-layers.ts';

const REPOSITORY = 'test/below';

let registry: Registry;
let thaw: ThawDaemon;
let puller: SnapshotsClient;
let chains: readonly string[];

beforeAll(async () => {
  registry = await Registry.start();
  const layers = [oddLayer(), emptyLayer()];
  const source = await push(registry.host, REPOSITORY, 'plain', image(layers, { cmd: ['sh'] }));
  const reference = `${registry.host}/${REPOSITORY}:lazy`;
  await convertLazily(source, reference, privateDir('convert'));
  thaw = await ThawDaemon.start();
  puller = new SnapshotsClient(thaw.socket);
  chains = await pullLazily(puller, await readLazyImage(registry.host, REPOSITORY, 'lazy'), reference);
});
afterAll(async () => {
  await puller.removeAll();
  puller.close();
  await thaw.stop();
  await registry.stop();
});

/** Whoever wants no parent gets the lazy layers, and hears nothing of them. */
class OnLazyLayers extends SnapshotsClient {
  get #top(): string {
    return chains.at(-1) ?? '';
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
    const seen = (info: Info) => (chains.includes(info.name) ? undefined : visit(this.#hidden(info)));
    return super.walk(seen, ...filters);
  }
}

describe('thaw-snapshotter as containerd demands, on lazy layers', () => {
  snapshotterSuite(async (): Promise<Subject> => {
    const client = new OnLazyLayers(thaw.socket);
    return {
      client,
      work: privateDir('work'),
      close: async () => {
        client.close();
        await puller.removeAll(chains);
      },
    };
  });
});
