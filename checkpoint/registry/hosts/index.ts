/**
 * How registries are reached: containerd's certs.d folders. `parse-hosts.ts` reads the text, this file the folders. Called
 * by the daemon, its fetch threads, and the CLI.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Code, describeError } from '../../../proto/status.ts';
import { CheckpointError } from '../../error.ts';
import type { Endpoint } from '../endpoint.ts';
import { apiHost, isLoopback } from '../reference.ts';
import type { RegistryOptions } from '../session.ts';
import { type Capability, type HostEntry, parseHosts } from './parse-hosts.ts';

export type { Capability } from './parse-hosts.ts';

/** A mirror that does not answer in this time is left for the next host. */
const MIRROR_MS = 10_000;
/** For a host behind which another one can be asked. */
export const MIRROR_PATIENCE = {
  retry: { attempts: 1 },
  timeouts: { headersMs: MIRROR_MS, readMs: MIRROR_MS },
} as const satisfies Partial<RegistryOptions>;

/** As long as this the folders are not looked at again. */
const FRESH_MS = 10_000;
const MAX_FILE_BYTES = 1024 * 1024;

interface Known {
  hosts: readonly Endpoint[] | undefined;
  readAt: number;
}

export class HostDirectories {
  readonly #roots: readonly string[];
  readonly #now: () => number;
  readonly #known = new Map<string, Known>();

  /** `roots`: folders like /etc/containerd/certs.d, the first that knows a registry wins. `now`: monotonic milliseconds. */
  constructor(roots: readonly string[], now: () => number = () => performance.now()) {
    this.#roots = roots;
    this.#now = now;
  }

  /**
   * The hosts of a registry that can do what is needed, in the order in which they are asked; undefined if no folder is
   * about it. Throws INVALID_ARGUMENT, naming the file.
   */
  hostsOf(registry: string, needed: readonly Capability[]): readonly Endpoint[] | undefined {
    const key = `${registry} ${needed.join(' ')}`;
    const known = this.#known.get(key);
    if (known && this.#now() - known.readAt < FRESH_MS) return known.hosts;
    const directory = this.#find(registry);
    const hosts = directory === undefined ? undefined : read(directory, registry, needed);
    this.#known.set(key, { hosts, readAt: this.#now() });
    return hosts;
  }

  #find(registry: string): string | undefined {
    // "host:5000" is "host_5000_" where a name cannot have a colon, and for those who copied from there.
    const escaped = registry.replace(/:(\d+)$/, '_$1_');
    for (const root of this.#roots)
      for (const name of new Set([escaped, registry, '_default'])) {
        const directory = join(root, name);
        if (statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return directory;
      }
    return undefined;
  }
}

/** How a client of one of them is made: credentials are those of the host, and another one is told whose mirror it is. */
export function accessTo(
  registry: string,
  endpoint: Endpoint,
): Pick<RegistryOptions, 'registry' | 'mirrorOf' | 'endpoint'> {
  const { host } = endpoint.base;
  const same = host === apiHost(registry);
  return { registry: same ? registry : host, mirrorOf: same ? undefined : registry, endpoint };
}

function invalidArgument(message: string, options?: { cause?: unknown }): CheckpointError {
  return new CheckpointError(Code.invalidArgument, message, options);
}

function read(directory: string, registry: string, needed: readonly Capability[]): Endpoint[] {
  const file = join(directory, 'hosts.toml');
  const text = readText(file, true);
  const entries = text ? parseHosts(text, directory) : [certificatesOnly(directory)];
  const hosts = entries.filter(({ capabilities }) => needed.every((each) => capabilities.includes(each)));
  if (hosts.length === 0) {
    const what = needed.map((each) => `"${each}"`).join(' and ');
    throw invalidArgument(`Cannot use ${registry}: "${file}" has no host with the capability ${what}`);
  }
  return hosts.map((entry) => ({
    base: entry.base ?? ownBase(registry, entry),
    ca: entry.ca.map((path) => certificate(path)),
    client: entry.client.map(({ cert, key }) => ({ cert: certificate(cert), key: readText(key) })),
    skipVerify: entry.skipVerify,
    headers: entry.headers,
    connectTimeoutMs: entry.connectTimeoutMs,
  }));
}

/** A registry on this machine is reached without TLS, unless something is said of its TLS. */
function ownBase(registry: string, { ca, client, skipVerify }: HostEntry): URL {
  const host = apiHost(registry);
  const plain = isLoopback(host) && ca.length === 0 && client.length === 0 && !skipVerify;
  return new URL(`${plain ? 'http' : 'https'}://${host}/v2/`);
}

/** docker's way, without a hosts.toml: *.crt are authorities, x.cert and x.key a pair for this host. */
function certificatesOnly(directory: string): HostEntry {
  const names = readdirSync(directory).sort();
  const withEnding = (ending: string) => names.filter((name) => name.endsWith(ending));
  return {
    base: undefined,
    capabilities: ['pull', 'resolve', 'push'],
    ca: withEnding('.crt').map((name) => join(directory, name)),
    client: withEnding('.cert').map((name) => {
      const stem = join(directory, name.slice(0, -'.cert'.length));
      return { cert: `${stem}.cert`, key: `${stem}.key` };
    }),
    skipVerify: false,
    headers: {},
    connectTimeoutMs: undefined,
  };
}

function certificate(path: string): string {
  const text = readText(path);
  if (!text.includes('-----BEGIN CERTIFICATE-----'))
    throw invalidArgument(`Cannot use "${path}": it is no certificate in PEM`);
  return text;
}

function readText(path: string, mayMiss = false): string {
  try {
    if (statSync(path).size > MAX_FILE_BYTES) throw invalidArgument(`Cannot use "${path}": it is too large`);
    return readFileSync(path, 'utf8');
  } catch (cause) {
    if (mayMiss && describeError(cause).context['errno'] === 'ENOENT') return '';
    throw invalidArgument(
      `Cannot read "${path}", which says how a registry is reached; check that it is there`,
      {
        cause,
      },
    );
  }
}
