/** The root file system of a container, on a folder of its bundle. */
import { type MountCalls, mountRootfs, unmountRootfs } from '../mounts/index.ts';
import { bundlePaths } from './bundle.ts';
import type { Mount } from './start-plan.ts';

export class Rootfs {
  readonly #paths: ReturnType<typeof bundlePaths>;
  readonly #calls: MountCalls;
  #mounted = false;

  constructor(bundle: string, calls: MountCalls) {
    this.#paths = bundlePaths(bundle);
    this.#calls = calls;
  }

  /** Without mounts the folder itself is the root file system. */
  async mount(mounts: readonly Mount[]): Promise<void> {
    await mountRootfs(mounts, this.#paths.rootfs, this.#paths.layers, this.#calls);
    this.#mounted = mounts.length > 0;
  }

  /** Does nothing where nothing is mounted. */
  async unmount(): Promise<void> {
    if (!this.#mounted) return;
    await unmountRootfs(this.#paths.rootfs, this.#calls);
    this.#mounted = false;
  }
}
