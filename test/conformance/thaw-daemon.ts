/** A thaw-snapshotter of a test's own. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify, type TomlTable } from 'smol-toml';
import { thaw } from '../../proto/gen/thaw.js';
import { TtrpcClient } from '../../proto/ttrpc/index.ts';
import { Daemon, privateDir, runDir, until } from '../lib/index.ts';
import { ListeningSockets } from '../lib/listening-sockets.ts';

const { v1 } = thaw;
const SERVICE = 'thaw.v1.Checkpoints';

export interface ThawDaemonOptions {
  /** Data folder, left to the caller; one of its own if absent. */
  root?: string | undefined;
  env?: NodeJS.ProcessEnv;
}

export class ThawDaemon {
  readonly root: string;
  readonly state: string;
  readonly socket: string;
  readonly thawSocket: string;
  readonly log: string;
  readonly #dir: string;
  readonly #env: NodeJS.ProcessEnv;
  #held: ListeningSockets | undefined;
  #daemon: Daemon | undefined;
  /** Process of the daemon that took over, which is no child of ours. */
  #successor: number | undefined;

  private constructor({ root, env = {} }: ThawDaemonOptions) {
    this.#dir = privateDir('thaw');
    this.#env = env;
    this.root = root ?? join(this.#dir, 'root');
    this.state = runDir('thaw');
    this.socket = join(this.state, 'snapshotter.sock');
    this.thawSocket = join(this.state, 'thaw.sock');
    this.log = join(this.#dir, 'log');
    mkdirSync(this.root, { recursive: true });
  }

  static async start(config: TomlTable = {}, options: ThawDaemonOptions = {}): Promise<ThawDaemon> {
    return ThawDaemon.#start(new ThawDaemon(options), config);
  }

  /** On sockets that are held for it over its restarts, as systemd does for a .socket unit. */
  static async startActivated(config: TomlTable = {}): Promise<ThawDaemon> {
    const thaw = new ThawDaemon({});
    // Not in the order in which the daemon opens them.
    thaw.#held = await ListeningSockets.make([thaw.thawSocket, thaw.socket]);
    return ThawDaemon.#start(thaw, config);
  }

  static async #start(thaw: ThawDaemon, config: TomlTable): Promise<ThawDaemon> {
    writeFileSync(
      join(thaw.#dir, 'config.toml'),
      stringify({ root: thaw.root, state: thaw.state, log_level: 'debug', ...config }),
    );
    await thaw.restart();
    return thaw;
  }

  /** Of the one that answers now. */
  get pid(): number {
    return this.#successor ?? this.#daemon?.pid ?? -1;
  }

  /** As `systemctl reload` does: another daemon takes the place of this one. */
  async upgrade(): Promise<void> {
    const { pid: old } = this;
    const before = this.#readyLines();
    process.kill(old, 'SIGHUP');
    await until('the old daemon to end', () => !isAlive(old));
    await until('the new daemon to be ready', () => this.#readyLines() > before);
    const ready = this.events().findLast(({ msg }) => msg === 'ready');
    this.#successor = Number(ready?.['pid']);
    await this.#daemon?.stop();
    this.#daemon = undefined;
  }

  get arguments(): string[] {
    return ['--config', join(this.#dir, 'config.toml')];
  }

  async restart(): Promise<void> {
    await this.halt();
    const before = this.#readyLines();
    const ready = () => this.#readyLines() > before;
    const held = this.#held;
    this.#daemon = held
      ? await Daemon.start(
          'sh',
          ['-c', 'LISTEN_PID=$$ exec thaw-snapshotter "$@"', 'sh', ...this.arguments],
          {
            log: this.log,
            env: { ...this.#env, ...held.environment },
            descriptors: held.descriptors,
            ready,
          },
        )
      : await Daemon.start('thaw-snapshotter', this.arguments, { log: this.log, env: this.#env, ready });
  }

  /** SIGTERM. */
  async halt(): Promise<void> {
    await this.#daemon?.stop();
    this.#daemon = undefined;
    const successor = this.#successor;
    this.#successor = undefined;
    if (successor === undefined) return;
    process.kill(successor, 'SIGTERM');
    await until('the daemon to end', () => !isAlive(successor));
  }

  /** kill -9. */
  async kill(): Promise<void> {
    await this.#daemon?.kill();
    this.#daemon = undefined;
  }

  async stop(): Promise<void> {
    await this.halt();
    this.#held?.close();
    rmSync(this.#dir, { recursive: true, force: true });
    rmSync(this.state, { recursive: true, force: true });
  }

  /** Parsed log lines. */
  events(): Record<string, unknown>[] {
    return readFileSync(this.log, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  locate(request: { namespace: string; containerId: string; lowerDirs: string[] }) {
    return this.#call('Locate', v1.LocateRequest, v1.LocateResponse, request);
  }
  async awaitCheckpoint(id: string, timeoutMs = 30_000) {
    const { fetchedBytes, localBytes } = await this.#call(
      'Await',
      v1.AwaitRequest,
      v1.AwaitResponse,
      { id },
      timeoutMs,
    );
    return { fetchedBytes: Number(fetchedBytes), localBytes: Number(localBytes) };
  }
  async want(id: string, ordinals: number[], timeoutMs = 30_000): Promise<void> {
    await this.#call('Want', v1.WantRequest, v1.WantResponse, { id, ordinals }, timeoutMs);
  }
  presence(id: string, knownChunks: number) {
    return this.#call('Presence', v1.PresenceRequest, v1.PresenceResponse, { id, knownChunks }, 20_000);
  }
  async checkpoints() {
    const { checkpoints } = await this.#call('List', v1.ListRequest, v1.ListResponse, {});
    return checkpoints;
  }
  async layers() {
    return (await this.#call('List', v1.ListRequest, v1.ListResponse, {})).layers;
  }
  async recordReads(): Promise<void> {
    await this.#call('RecordReads', v1.RecordReadsRequest, v1.RecordReadsResponse, {});
  }
  async endReads() {
    return (await this.#call('EndReads', v1.EndReadsRequest, v1.EndReadsResponse, {})).layers;
  }
  async evict(id: string): Promise<number> {
    const { freedBytes } = await this.#call('Evict', v1.EvictRequest, v1.EvictResponse, { id });
    return Number(freedBytes);
  }

  async #call<Request, Response>(
    method: string,
    request: { encode(message: Request): { finish(): Uint8Array } },
    response: { decode(bytes: Uint8Array): Response },
    message: Request,
    timeoutMs = 10_000,
  ): Promise<Response> {
    const client = await TtrpcClient.connect(this.thawSocket, 5_000);
    try {
      return await client.unary(SERVICE, method, { request, response }, message, { timeoutMs });
    } finally {
      client.close();
    }
  }

  #readyLines(): number {
    try {
      return readFileSync(this.log, 'utf8').split('"msg":"ready"').length - 1;
    } catch {
      return 0;
    }
  }
}

/** A zombie is not: nobody may reap it. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
