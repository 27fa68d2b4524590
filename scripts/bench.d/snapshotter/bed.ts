/**
 * What the snapshotter bench stands on: one containerd with thaw's snapshotter and stargz-snapshotter as proxy plug-ins
 * beside its own overlayfs.
 */
import { Containerd, Registry, run, Snapshotter } from '../../../test/lib/index.ts';
import { STARGZ, StargzDaemon } from '../stargz/index.ts';
import { NAMESPACE, type Target } from './load.ts';

/** As containerd calls them. */
export const sides = ['thaw', STARGZ, 'overlayfs'] as const;
export type SnapshotterSide = (typeof sides)[number];

export class Bed {
  readonly containerd: Containerd;
  readonly registry: Registry;
  /** Process of each; overlayfs is part of containerd. */
  readonly pids: Readonly<Record<SnapshotterSide, number>>;
  readonly #thaw: Snapshotter;
  readonly #stargz: StargzDaemon;

  private constructor(containerd: Containerd, thaw: Snapshotter, stargz: StargzDaemon, registry: Registry) {
    this.containerd = containerd;
    this.registry = registry;
    this.pids = { thaw: thaw.pid, stargz: stargz.pid, overlayfs: containerd.pid };
    this.#thaw = thaw;
    this.#stargz = stargz;
  }

  static async start(): Promise<Bed> {
    // At the levels that a node has: nobody is asked to write a line for every call.
    const thaw = await Snapshotter.start({ config: { log_level: 'info' } });
    const stargz = await StargzDaemon.start();
    const containerd = await Containerd.start({
      snapshotterSocket: thaw.socket,
      snapshotterRoot: thaw.root,
      logLevel: 'info',
      extra: stargz.settings,
    });
    for (const name of ['thaw', STARGZ]) await containerd.reachSnapshotter(name);
    return new Bed(containerd, thaw, stargz, await Registry.start());
  }

  async stop(): Promise<void> {
    await this.registry.halt();
    await this.containerd.halt();
    await this.#stargz.halt();
    await this.#thaw.halt();
  }

  /** All sides through containerd, as its own callers go. */
  target(side: SnapshotterSide): Target {
    return { socket: this.containerd.socket, snapshotter: side };
  }

  /** Seconds that a pull with unpacking takes, of an image of which this containerd has nothing. */
  async pull(side: SnapshotterSide, image: string): Promise<number> {
    const { containerd } = this;
    const namespace = ['-n', NAMESPACE];
    // The transfer service of 2.x knows only the snapshotters that its own configuration lists.
    const local = containerd.version === '2' ? ['--local'] : [];
    const flags = [...local, '--plain-http', '--snapshotter', side];
    const began = performance.now();
    await containerd.ctr([...namespace, 'images', 'pull', ...flags, image], { timeoutMs: 300_000 });
    const seconds = (performance.now() - began) / 1000;
    // With `--sync` what belongs to the image alone has been collected when it returns.
    await containerd.ctr([...namespace, 'images', 'rm', '--sync', image], { timeoutMs: 120_000 });
    await run('sync', [], { timeoutMs: 120_000 });
    return seconds;
  }
}
