/** Debian's docker-registry on loopback, in a folder of its own. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { privateDir } from './dirs.ts';
import { Daemon } from './program.ts';
import { until } from './wait.ts';

export interface RegistryOptions {
  /** Data folder; one of its own if absent, removed by `stop`. */
  dir?: string;
  /** TCP port; a free one if absent. */
  port?: number;
}

/** One answered request, from the registry's own log. */
export interface RegistryRequest {
  method: string;
  uri: string;
  status: number;
  /** Bytes of the body that the registry sent. */
  sent: number;
}

export class Registry {
  /** `127.0.0.1:PORT`, the first part of an image's name. */
  readonly host: string;
  readonly dir: string;
  readonly #ownDir: boolean;
  readonly #config: string;
  readonly #log: string;
  #daemon: Daemon | undefined;

  private constructor(port: number, options: RegistryOptions) {
    this.host = `127.0.0.1:${port}`;
    this.#ownDir = options.dir === undefined;
    this.dir = options.dir ?? privateDir('registry');
    this.#config = `${this.dir}/config.json`;
    this.#log = `${this.dir}/registry.log`;
    mkdirSync(`${this.dir}/data`, { recursive: true });
    // JSON is YAML.
    writeFileSync(
      this.#config,
      JSON.stringify({
        version: 0.1,
        log: { level: 'info', formatter: 'json', accesslog: { disabled: true } },
        storage: { filesystem: { rootdirectory: `${this.dir}/data` }, delete: { enabled: true } },
        http: { addr: this.host },
      }),
    );
  }

  static async start(options: RegistryOptions = {}): Promise<Registry> {
    const registry = new Registry(options.port ?? (await freePort()), options);
    await registry.restart();
    return registry;
  }

  async restart(): Promise<void> {
    await this.halt();
    this.#daemon = await Daemon.start('docker-registry', ['serve', this.#config], {
      log: this.#log,
      env: { OTEL_TRACES_EXPORTER: 'none' },
      ready: async () => (await fetch(`http://${this.host}/v2/`)).ok,
    });
  }

  /** As a registry that is down: connections are refused. */
  async halt(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    // docker-registry ends at once on SIGTERM only when its drain time-out is unset; a crash is all a test needs.
    await daemon?.kill();
  }

  async stop(): Promise<void> {
    await this.halt();
    if (this.#ownDir) rmSync(this.dir, { recursive: true, force: true });
  }

  /** All requests answered so far, in order. */
  requests(): RegistryRequest[] {
    const requests: RegistryRequest[] = [];
    for (const line of readFileSync(this.#log, 'utf8').split('\n')) {
      if (!line.startsWith('{') || !line.includes('"response completed')) continue;
      const entry = JSON.parse(line) as Record<string, string | number | undefined>;
      requests.push({
        method: String(entry['http.request.method'] ?? ''),
        uri: String(entry['http.request.uri'] ?? ''),
        status: Number(entry['http.response.status'] ?? 0),
        sent: Number(entry['http.response.written'] ?? 0),
      });
    }
    return requests;
  }

  /** Waits until no request has been logged for `quietMs`, so that `requests` is complete. */
  async settled(quietMs = 300): Promise<RegistryRequest[]> {
    let last = -1;
    let since = Date.now();
    return await until('the registry to be idle', () => {
      const requests = this.requests();
      if (requests.length !== last) {
        last = requests.length;
        since = Date.now();
      }
      return Date.now() - since >= quietMs ? requests : undefined;
    });
  }
}

/** A TCP port of loopback that nobody listens on now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
