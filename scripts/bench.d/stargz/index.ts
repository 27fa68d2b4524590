/** The peer: stargz-snapshotter as a proxy plug-in of containerd, and what build.sh has put beside it. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { TomlTable } from 'smol-toml';
import { Daemon, privateDir, runDir } from '../../../test/lib/index.ts';
import { accepts } from '../../../test/lib/snapshotter.ts';

/** As containerd calls it. */
export const STARGZ = 'stargz';

const programs = join(import.meta.dirname, '../../../build/bench/stargz');

/** Of `load/main.go`. */
export const loadProgram = join(programs, 'load');
/** Debian's, which converts images. */
export const ctrRemoteProgram = join(programs, 'ctr-remote');

/** What it is, for whoever reads a number. */
export function stargzVersion(): string {
  return `stargz is stargz-snapshotter ${readFileSync(join(programs, 'version'), 'utf8')} of Debian's sources, with a main of ours`;
}

export class StargzDaemon {
  readonly socket: string;
  readonly root: string;
  readonly #log: string;
  #daemon: Daemon | undefined;

  private constructor(root: string | undefined) {
    const dir = privateDir(STARGZ);
    this.root = root ?? join(dir, 'root');
    this.#log = join(dir, 'log');
    this.socket = join(runDir(STARGZ), 'stargz.sock');
  }

  /** `root`: left to the caller; one of its own if absent. */
  static async start(root?: string): Promise<StargzDaemon> {
    const stargz = new StargzDaemon(root);
    await stargz.#start();
    return stargz;
  }

  async #start(): Promise<void> {
    mkdirSync(this.root, { recursive: true });
    const { socket, root } = this;
    this.#daemon = await Daemon.start(join(programs, 'snapshotter'), ['-address', socket, '-root', root], {
      log: this.#log,
      ready: () => accepts(socket),
    });
  }

  get pid(): number {
    return this.#daemon?.pid ?? -1;
  }

  /** Its mounts go too. */
  async halt(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    await daemon?.stop();
  }

  /**
   * Restarts it without what it fetched: for two minutes it remembers layers that nobody has any more. It is killed: ended in
   * order it removes all committed snapshots, and containerd knows some of them still, such as those of the sandbox image.
   * Source: service/service.go (fsRoot) and snapshot/snapshot.go (Close).
   */
  async empty(): Promise<void> {
    await this.#daemon?.kill();
    rmSync(this.socket, { force: true });
    rmSync(join(this.root, 'stargz'), { recursive: true, force: true });
    await this.#start();
  }

  /** What containerd must be told: the plug-in, and a runtime handler of that name on it. */
  get settings(): TomlTable {
    // The transfer service hands layer annotations on only where it is told to.
    const exports = { root: this.root, enable_remote_snapshot_annotations: 'true' };
    const runtime = {
      runtime_type: 'io.containerd.runc.v2',
      snapshotter: STARGZ,
      options: { SystemdCgroup: false },
    };
    return {
      proxy_plugins: { [STARGZ]: { type: 'snapshot', address: this.socket, exports } },
      plugins: {
        'io.containerd.cri.v1.images': { runtime_platforms: { [STARGZ]: { snapshotter: STARGZ } } },
        'io.containerd.cri.v1.runtime': { containerd: { runtimes: { [STARGZ]: runtime } } },
      },
    };
  }
}
