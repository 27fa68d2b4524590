/**
 * How registries are reached: containerd's certs.d folders. `parse-hosts.ts` reads the text, this file the folders. Called
 * by remote/registries.ts, in the daemon and in its fetch threads.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { apiHost, type Endpoint, isLoopback } from '../../checkpoint/registry/index.ts';
import { describeError } from '../../proto/status.ts';
import { invalidArgument } from '../error.ts';
import { type HostEntry, parseHosts } from './parse-hosts.ts';

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
   * The hosts that blobs of a registry are pulled from, in the order in which they are asked; undefined if no folder is
   * about it. Throws INVALID_ARGUMENT, naming the file.
   */
  hostsOf(registry: string): readonly Endpoint[] | undefined {
    const known = this.#known.get(registry);
    if (known && this.#now() - known.readAt < FRESH_MS) return known.hosts;
    const directory = this.#find(registry);
    const hosts = directory === undefined ? undefined : read(directory, registry);
    this.#known.set(registry, { hosts, readAt: this.#now() });
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

function read(directory: string, registry: string): Endpoint[] {
  const file = join(directory, 'hosts.toml');
  const text = readText(file, true);
  const entries = text ? parseHosts(text, directory) : [certificatesOnly(directory)];
  const hosts = entries.filter(({ capabilities }) => capabilities.includes('pull'));
  if (hosts.length === 0)
    throw invalidArgument(`Cannot pull from ${registry}: "${file}" has no host with the capability "pull"`);
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
    capabilities: ['pull'],
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
