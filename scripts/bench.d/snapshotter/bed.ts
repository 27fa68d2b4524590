/** What the snapshotter bench stands on: one containerd with thaw's snapshotter as a proxy plug-in beside its own overlayfs. */

import { SnapshotsClient } from '../../../test/conformance/snapshots-client.ts';
import { Containerd, Registry, run, Snapshotter } from '../../../test/lib/index.ts';
import type { Side } from '../alternate.ts';

/** As containerd calls them. */
export const snapshotters: Readonly<Record<Side, string>> = { ours: 'thaw', peer: 'overlayfs' };

const NAMESPACE = 'bench';

export class Bed {
  readonly containerd: Containerd;
  readonly snapshotter: Snapshotter;
  readonly registry: Registry;

  private constructor(containerd: Containerd, snapshotter: Snapshotter, registry: Registry) {
    this.containerd = containerd;
    this.snapshotter = snapshotter;
    this.registry = registry;
  }

  static async start(): Promise<Bed> {
    // At the levels that a node has: nobody is asked to write a line for every call.
    const snapshotter = await Snapshotter.start({ config: { log_level: 'info' } });
    const containerd = await Containerd.start({
      snapshotterSocket: snapshotter.socket,
      snapshotterRoot: snapshotter.root,
      logLevel: 'info',
    });
    await containerd.reachSnapshotter();
    return new Bed(containerd, snapshotter, await Registry.start());
  }

  async stop(): Promise<void> {
    await this.registry.halt();
    await this.containerd.halt();
    await this.snapshotter.halt();
  }

  /** Both sides through containerd, as its own callers go. One connection each. */
  clients(side: Side, count: number): SnapshotsClient[] {
    const options = { snapshotter: snapshotters[side], namespace: NAMESPACE };
    return Array.from({ length: count }, () => new SnapshotsClient(this.containerd.socket, options));
  }

  /** Seconds that a pull with unpacking takes, of an image of which this containerd has nothing. */
  async pull(side: Side, image: string): Promise<number> {
    const { containerd } = this;
    const namespace = ['-n', NAMESPACE];
    // The transfer service of 2.x knows only the snapshotters that its own configuration lists.
    const local = containerd.version === '2' ? ['--local'] : [];
    const flags = [...local, '--plain-http', '--snapshotter', snapshotters[side]];
    const began = performance.now();
    await containerd.ctr([...namespace, 'images', 'pull', ...flags, image], { timeoutMs: 300_000 });
    const seconds = (performance.now() - began) / 1000;
    // With `--sync` what belongs to the image alone has been collected when it returns.
    await containerd.ctr([...namespace, 'images', 'rm', '--sync', image], { timeoutMs: 120_000 });
    await run('sync', [], { timeoutMs: 120_000 });
    return seconds;
  }
}
