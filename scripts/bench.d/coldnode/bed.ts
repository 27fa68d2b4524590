/** What the cold-node bench stands on: checkpoints in a registry behind a slow link, and a node that can be emptied. */
import { writeFileSync } from 'node:fs';
import { mergeTables } from '../../../cli/install/toml-edit.ts';
import { withDaemon } from '../../../cli/node/daemon.ts';
import { DAEMON_SOCKET } from '../../../cli/node/socket.ts';
import { privateDir, type RegistryRequest, run, until } from '../../../test/lib/index.ts';
import { type Answers, Bed, commandOf, workerEntry } from '../restore/bed.ts';
import { STARGZ, type StargzDaemon } from '../stargz/index.ts';
import { type PackedLayer, packCheckpoint, packEntries, pushImage } from './images.ts';
import { type Gbit, throttle, unthrottle } from './throttle.ts';

/**
 * Handlers of the node's containerd: thaw with its snapshotter, thaw on unpacked images, containerd's own, and that one on
 * stargz-snapshotter.
 */
export const handlers = { thaw: 'thaw', whole: 'thaw-whole', runc: 'runc', stargz: STARGZ } as const;

const CALL_MS = 30_000;

/** A checkpoint of which this node has nothing. */
export interface Remote {
  mib: number;
  command: string[];
  /** List of the pages that must come back, and their bytes. */
  pages: string;
  bytes: number;
  answers: Answers;
  /** Checkpoint image, and the image with the same files as an ordinary layer. */
  image: string;
  peerImage: string;
}

/** The layer below a worker's own. */
export interface Base {
  name: string;
  layer: PackedLayer;
}

export class ColdBed {
  readonly bed: Bed;
  /** For layers, on the disk of the node cache. */
  readonly dir: string;
  readonly #stargz: StargzDaemon | undefined;

  private constructor(bed: Bed, stargz: StargzDaemon | undefined) {
    this.bed = bed;
    this.#stargz = stargz;
    this.dir = privateDir('bench');
  }

  /** `stargz`: containerd uses it too, and it is emptied with the node; the caller ends it. */
  static async start(stargz?: StargzDaemon): Promise<ColdBed> {
    // Under the runtime thaw, but unpacked as any image is.
    const whole = { runtime_type: 'io.containerd.runc.thaw.v2', container_annotations: ['thaw.dev/*'] };
    const runtimes = { [handlers.whole]: whole };
    const extra = { plugins: { 'io.containerd.cri.v1.runtime': { containerd: { runtimes } } } };
    return new ColdBed(await Bed.start(stargz ? mergeTables(extra, stargz.settings) : extra), stargz);
  }

  async stop(): Promise<void> {
    await unthrottle();
    await this.bed.stop();
  }

  /** Makes a checkpoint of a worker and puts it into the registry in both forms; the node keeps nothing of it. */
  async publish(mib: number, base: Base): Promise<Remote> {
    const { host } = this.bed.node.registry;
    const command = commandOf(mib);
    const repository = `bench/${base.name}-${mib}`;
    const layers = [base.layer, await packEntries('worker', [workerEntry()])];
    const cold = await pushImage({ host, repository, tag: 'cold', layers, command });
    const saved = await this.bed.save(mib, cold);
    const files = await packCheckpoint(saved.imagesDir, this.dir);
    const peerImage = await pushImage({
      host,
      repository,
      tag: 'files',
      layers: [...layers, files],
      command,
    });
    const { pages, bytes, answers, image } = saved;
    await this.bed.drop(saved);
    return { mib, command, pages, bytes, answers, image, peerImage };
  }

  /**
   * Takes every image, snapshot and cached checkpoint away, and what the page cache has of any file; then reads the
   * registry's files again: on another machine nobody would have dropped those.
   */
  async empty(): Promise<void> {
    const { node } = this.bed;
    for (const { id, repoTags } of await node.cri.listImages())
      if (repoTags.some((tag) => tag.startsWith(node.registry.host))) await node.forget(id);
    // A blob's labels name the registry that it came from.
    await until('containerd to have dropped all blobs of the images', async () => {
      const { stdout } = await node.containerd.ctr(['-n', 'k8s.io', 'content', 'ls']);
      return !stdout.includes('/distribution.source.');
    });
    // Bytes of one image may be bytes of the next.
    await until('the node cache to be empty', async () => {
      const { checkpoints, layers } = await withDaemon(
        DAEMON_SOCKET,
        AbortSignal.timeout(CALL_MS),
        (daemon) => daemon.listAll(),
      );
      return checkpoints.length + layers.length === 0;
    });
    await this.#stargz?.empty();
    if (this.#stargz) await node.containerd.reachSnapshotter(STARGZ);
    await run('sync', [], { timeoutMs: 120_000 });
    writeFileSync('/proc/sys/vm/drop_caches', '1');
    const blobs = `${node.registry.dir}/data`;
    await run('sh', ['-c', 'find "$0" -type f -exec cat {} + >/dev/null', blobs], { timeoutMs: 300_000 });
  }

  /** URL of an image's largest layer. */
  async largestBlob(image: string): Promise<string> {
    const { host } = this.bed.node.registry;
    const [repository = '', tag = ''] = image.slice(host.length + 1).split(':');
    const answer = await fetch(`http://${host}/v2/${repository}/manifests/${tag}`, {
      headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
      signal: AbortSignal.timeout(30_000),
    });
    const { layers } = (await answer.json()) as { layers: { digest: string; size: number }[] };
    const largest = layers.reduce((most, next) => (next.size > most.size ? next : most));
    return `http://${host}/v2/${repository}/blobs/${largest.digest}`;
  }

  /** Runs something while the registry is that far away; the requests that the registry answered meanwhile. */
  async behindLink<T>(
    gbit: Gbit,
    work: () => Promise<T>,
  ): Promise<{ result: T; requests: RegistryRequest[] }> {
    const { registry } = this.bed.node;
    const before = (await registry.settled()).length;
    await throttle(gbit);
    try {
      const result = await work();
      return { result, requests: (await registry.settled()).slice(before) };
    } finally {
      await unthrottle();
    }
  }
}

/** Body bytes that the registry sent. */
export function sentBytes(requests: readonly RegistryRequest[]): number {
  return requests.filter(({ method }) => method === 'GET').reduce((sum, { sent }) => sum + sent, 0);
}
