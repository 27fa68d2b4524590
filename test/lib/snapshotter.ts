/** The thaw-snapshotter of the install tree, with data of its own. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { stringify, type TomlTable } from 'smol-toml';
import { privateDir } from './dirs.ts';
import { Daemon } from './program.ts';

export interface SnapshotterOptions {
  /** Data folder; one of its own if absent, removed by `stop`. */
  dir?: string;
  /** Folder of the sockets. Shims and the CLI look in /run/thaw, the default. */
  state?: string;
  containerdSocket?: string;
  /** Further keys of config.toml. */
  config?: TomlTable;
  env?: NodeJS.ProcessEnv;
}

const PROGRAM = '/opt/thaw/current/bin/thaw-snapshotter';

export class Snapshotter {
  readonly dir: string;
  /** gRPC socket of the Snapshots service. */
  readonly socket: string;
  /** ttrpc socket of thaw.v1. */
  readonly thawSocket: string;
  /** Its `root`: snapshots, metadata, cache. */
  readonly root: string;
  readonly log: string;
  readonly #state: string;
  readonly #ownDir: boolean;
  readonly #env: NodeJS.ProcessEnv;
  #daemon: Daemon | undefined;

  private constructor(options: SnapshotterOptions) {
    this.#ownDir = options.dir === undefined;
    this.dir = options.dir ?? privateDir('thaw');
    this.#state = options.state ?? '/run/thaw';
    this.socket = `${this.#state}/snapshotter.sock`;
    this.thawSocket = `${this.#state}/thaw.sock`;
    this.root = `${this.dir}/root`;
    this.log = `${this.dir}/snapshotter.log`;
    this.#env = options.env ?? {};
    mkdirSync(this.root, { recursive: true, mode: 0o700 });
    const config: TomlTable = {
      root: this.root,
      state: this.#state,
      log_level: 'debug',
      ...(options.containerdSocket === undefined ? {} : { containerd_address: options.containerdSocket }),
      ...options.config,
    };
    writeFileSync(`${this.dir}/config.toml`, stringify(config), { mode: 0o600 });
  }

  static async start(options: SnapshotterOptions = {}): Promise<Snapshotter> {
    const snapshotter = new Snapshotter(options);
    await snapshotter.restart();
    return snapshotter;
  }

  get pid(): number {
    return this.#daemon?.pid ?? -1;
  }

  /** Starts it again after `kill` or `halt`, or restarts it. */
  async restart(): Promise<void> {
    await this.halt();
    this.#daemon = await Daemon.start(PROGRAM, ['--config', `${this.dir}/config.toml`], {
      log: this.log,
      env: this.#env,
      ready: async () => (await accepts(this.socket)) && (await accepts(this.thawSocket)),
    });
  }

  /** SIGTERM; data stays. */
  async halt(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    await daemon?.stop();
  }

  /** kill -9. */
  async kill(): Promise<void> {
    await this.#daemon?.kill();
    this.#daemon = undefined;
  }

  /** Ends it and removes its files. */
  async stop(): Promise<void> {
    await this.halt();
    rmSync(this.#state, { recursive: true, force: true });
    if (this.#ownDir) rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Whether somebody listens on a unix socket. */
export function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
