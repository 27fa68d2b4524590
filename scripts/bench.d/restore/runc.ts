/**
 * Restores by runc alone, of the same files into the same sandbox with the same spec and root file system: everything at
 * once, or with CRIU's own lazy-pages daemon.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Code } from '../../../proto/status.ts';
import { Daemon, run } from '../../../test/lib/index.ts';
import { BenchError } from '../error.ts';
import type { Bed, Saved } from './bed.ts';
import { carryOut, check, type Plan, type Restored, type Restorer } from './restored.ts';
import { cgroupOf, readSpec } from './spec.ts';

const RESTORE_MS = 120_000;

/** What runc has no flags for, as thaw sets it: no connection is kept, so none has to be protected by a firewall. */
const criuConf = 'tcp-close\nnetwork-lock skip\n';

export const runcEager: Restorer = { run: (bed, saved, plan) => restore(bed, saved, plan, false) };
export const criuLazy: Restorer = { run: (bed, saved, plan) => restore(bed, saved, plan, true) };

async function restore(bed: Bed, saved: Saved, plan: Plan, lazy: boolean): Promise<Restored> {
  const pod = await bed.node.createPod({ image: saved.image, command: saved.command });
  try {
    const bundle = await Bundle.make(bed, pod.containerId);
    try {
      const daemon = lazy ? await bundle.lazyPages(saved.imagesDir) : undefined;
      try {
        const restored = await carryOut(
          {
            rootfs: bundle.rootfs,
            cgroup: bundle.cgroup,
            start: () => bundle.restore(saved.imagesDir, lazy),
          },
          plan,
        );
        check(restored, saved.answers);
        return restored;
      } finally {
        await bundle.kill();
        await daemon?.kill();
      }
    } finally {
      await bundle.remove();
    }
  } finally {
    await bed.node.removePod(pod);
  }
}

/** Mounts the root file system of a container that is not started. */
export async function mountRootfs(bed: Bed, containerId: string, directory: string): Promise<void> {
  const { snapshotter, snapshotKey } = await bed.client.containers.get(containerId);
  for (const { type, source, options } of await bed.client.snapshots(snapshotter).mounts(snapshotKey))
    await run('mount', ['-t', type, '-o', options.join(','), source, directory], {
      // By fsconfig(2), which it prefers, no option may be longer than 255 bytes.
      env: { LIBMOUNT_FORCE_MOUNT2: 'always' },
    });
}

/** A container of containerd's, made into a bundle for runc instead. */
export class Bundle {
  readonly dir: string;
  readonly rootfs: string;
  readonly cgroup: string;
  readonly #id = 'worker';

  private constructor(dir: string, cgroup: string) {
    this.dir = dir;
    this.rootfs = join(dir, 'rootfs');
    this.cgroup = cgroup;
  }

  static async make(bed: Bed, containerId: string): Promise<Bundle> {
    const spec = await readSpec(bed, containerId);
    const bundle = new Bundle(mkdtempSync(join(bed.dir, 'bundle-')), cgroupOf(spec));
    for (const name of ['rootfs', 'work']) mkdirSync(join(bundle.dir, name));
    const conf = join(bundle.dir, 'criu.conf');
    writeFileSync(conf, criuConf);
    const annotations = { ...spec.annotations, 'org.criu.config': conf };
    const config = { ...spec, annotations, root: { ...spec.root, path: bundle.rootfs } };
    writeFileSync(join(bundle.dir, 'config.json'), JSON.stringify(config));
    await mountRootfs(bed, containerId, bundle.rootfs);
    return bundle;
  }

  /** Starts the daemon that `restore` will hand the memory to. */
  lazyPages(imagesDir: string): Promise<Daemon> {
    const socket = join(this.#work, 'lazy-pages.socket');
    const args = ['lazy-pages', '--images-dir', imagesDir, '--work-dir', this.#work];
    return Daemon.start('criu', args, {
      log: join(this.dir, 'lazy-pages.log'),
      // It serves one restore, and a connection that closes again would be that.
      ready: () => existsSync(socket),
    });
  }

  async restore(imagesDir: string, lazy: boolean): Promise<void> {
    const args = [
      ...['restore', '--detach', '--bundle', this.dir, '--pid-file', join(this.dir, 'pid')],
      ...['--image-path', imagesDir, '--work-path', this.#work, '--ext-unix-sk'],
      ...(lazy ? ['--lazy-pages'] : []),
      this.#id,
    ];
    // Without pipes: the container keeps what it is given.
    const child = spawn('runc', [...this.#globals, ...args], {
      stdio: 'ignore',
      timeout: RESTORE_MS,
      killSignal: 'SIGKILL',
    });
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', resolve);
    });
    if (code !== 0)
      throw new BenchError(
        Code.failedPrecondition,
        `runc restore ended with ${code}: ${this.#tail('runc.log')}${this.#tail('work/restore.log')}`,
      );
  }

  /** Ends the container, if there is one. */
  async kill(): Promise<void> {
    await run('runc', [...this.#globals, 'delete', '--force', this.#id], { allowFailure: true });
  }

  async remove(): Promise<void> {
    await run('umount', [this.rootfs]);
    rmSync(this.dir, { recursive: true, force: true });
  }

  get #work(): string {
    return join(this.dir, 'work');
  }

  get #globals(): string[] {
    return ['--root', join(this.dir, 'runc'), '--log', join(this.dir, 'runc.log')];
  }

  #tail(name: string): string {
    try {
      return readFileSync(join(this.dir, name), 'utf8').split('\n').slice(-15).join('\n');
    } catch {
      return '';
    }
  }
}
