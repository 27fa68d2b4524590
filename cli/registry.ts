import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import {
  type Credentials,
  credentialsFromDockerConfig,
  type Platform,
  RegistryClient,
} from '../checkpoint/registry/index.ts';
import { Code, describeError } from '../proto/status.ts';
import { CliError } from './error.ts';

/** The registries that one command talks to, each with one client and the credentials of `docker login`. */
export class Registries {
  readonly #plainHttp: boolean;
  readonly #env: Readonly<Record<string, string | undefined>>;
  readonly #clients = new Map<string, RegistryClient>();
  #config: Promise<string | undefined> | undefined;

  constructor(plainHttp: boolean, env: Readonly<Record<string, string | undefined>>) {
    this.#plainHttp = plainHttp;
    this.#env = env;
  }

  async client(registry: string): Promise<RegistryClient> {
    const known = this.#clients.get(registry);
    if (known) return known;
    const credentials = await this.#credentials(registry);
    const made = new RegistryClient({
      registry,
      credentials,
      // Not said is not the same as no: a registry on this machine is reached without TLS by itself.
      ...(this.#plainHttp ? { plainHttp: true } : {}),
    });
    this.#clients.set(registry, made);
    return made;
  }

  async close(): Promise<void> {
    for (const client of this.#clients.values()) await client.close();
    this.#clients.clear();
  }

  async #credentials(registry: string): Promise<Credentials | undefined> {
    this.#config ??= readConfig(dockerConfigPath(this.#env));
    const text = await this.#config;
    return text === undefined ? undefined : credentialsFromDockerConfig(text, registry);
  }
}

function dockerConfigPath(env: Readonly<Record<string, string | undefined>>): string {
  return join(env['DOCKER_CONFIG'] || join(env['HOME'] || homedir(), '.docker'), 'config.json');
}

async function readConfig(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const { code } = describeError(error);
    if (code === Code.notFound) return undefined;
    throw new CliError(code, `Cannot read the registry credentials in ${path}: check its permissions`, {
      cause: error,
    });
  }
}

/** What this machine runs, in Go's words. */
export function hostPlatform(nodeArch: string = process.arch): Platform {
  return { os: 'linux', architecture: nodeArch === 'x64' ? 'amd64' : nodeArch };
}
