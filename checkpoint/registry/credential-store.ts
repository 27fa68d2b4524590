/** Where credentials come from: a docker config.json with its helpers, and Kubernetes secrets as files. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Code, describeError } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import { type CredentialRequest, type Credentials, isRefused } from './credentials.ts';
import {
  credentialsIn,
  type DockerConfig,
  helperFor,
  helperServer,
  parseDockerConfig,
} from './docker-config.ts';

export interface CredentialStoreOptions {
  /** A docker config.json. It is an error that it is not there only if it is required. */
  dockerConfig?: { path: string; required: boolean } | undefined;
  /** Files of secrets, or folders of them; the helpers that they name are not run: whoever writes a secret is not root. */
  pullSecrets?: readonly string[] | undefined;
  /** What helpers get: PATH, HOME, and what they are told by it. */
  environment: Readonly<Record<string, string | undefined>>;
  /** Monotonic milliseconds; for tests. */
  now?: () => number;
}

interface KnownFile {
  /** Changes with the file. */
  stamp: string;
  config: DockerConfig;
}

interface HelperAnswer {
  askedAt: number;
  found: Promise<Credentials | undefined>;
}

const HELPER_TIMEOUT_MS = 10_000;
/** A helper that answered what a registry refused, or failed, is left alone for so long. */
const ASK_AGAIN_MS = 5_000;
/** Kubernetes' limit for a secret. */
const MAX_FILE_BYTES = 1024 * 1024;
/** The files that a secret of type kubernetes.io/dockerconfigjson, or the older kubernetes.io/dockercfg, is mounted as. */
const SECRET_FILES = ['.dockerconfigjson', '.dockercfg'];

export class CredentialStore {
  readonly #options: CredentialStoreOptions;
  readonly #now: () => number;
  readonly #files = new Map<string, KnownFile>();
  readonly #answers = new Map<string, HelperAnswer>();
  readonly #closed = new AbortController();

  constructor(options: CredentialStoreOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Ends helpers that run. */
  close(): void {
    this.#closed.abort();
  }

  /**
   * The first credentials for a repository that were not refused: the docker config.json's helper, its own entries, then
   * the secrets in order. Files that changed are read again. A source that cannot be read is an error only if no other
   * one has credentials; the error names the file and quotes nothing of it.
   */
  async find({ registry, repository, refused }: CredentialRequest): Promise<Credentials | undefined> {
    const failures: unknown[] = [];
    const attempt = async <T>(look: () => Promise<readonly T[]>): Promise<readonly T[]> => {
      try {
        return await look();
      } catch (error) {
        failures.push(error);
        return [];
      }
    };
    const usable = async (look: () => Promise<readonly Credentials[]>) =>
      (await attempt(look)).find((each) => !isRefused(each, refused));
    const { dockerConfig, pullSecrets = [] } = this.#options;
    if (dockerConfig) {
      const { path, required } = dockerConfig;
      const found =
        (await usable(() => this.#fromHelper(path, required, registry, refused))) ??
        (await usable(() => this.#own(path, required, registry, repository)));
      if (found) return found;
    }
    for (const place of pullSecrets) {
      for (const file of await attempt(() => secretFiles(place))) {
        // One that goes while it is looked at is a secret that was removed.
        const found = await usable(() => this.#own(file, file === place, registry, repository));
        if (found) return found;
      }
    }
    if (failures.length > 0) throw failures[0];
    return undefined;
  }

  async #fromHelper(
    path: string,
    required: boolean,
    registry: string,
    refused: readonly Credentials[],
  ): Promise<readonly Credentials[]> {
    const config = await this.#read(path, required);
    const helper = config && helperFor(config, registry);
    const found = helper === undefined ? undefined : await this.#ask(helper, registry, refused);
    return found ? [found] : [];
  }

  async #own(
    path: string,
    required: boolean,
    registry: string,
    repository: string,
  ): Promise<readonly Credentials[]> {
    const config = await this.#read(path, required);
    try {
      return config ? credentialsIn(config, registry, repository) : [];
    } catch (error) {
      throw unreadable(path, describeError(error).message);
    }
  }

  async #read(path: string, required: boolean): Promise<DockerConfig | undefined> {
    try {
      const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
      const stamp = [dev, ino, size, mtimeNs, ctimeNs].join(' ');
      const known = this.#files.get(path);
      if (known?.stamp === stamp) return known.config;
      if (size > MAX_FILE_BYTES) throw new CheckpointError(Code.invalidArgument, 'it is too large to be one');
      const config = parseDockerConfig(await readFile(path, 'utf8'));
      this.#files.set(path, { stamp, config });
      return config;
    } catch (error) {
      this.#files.delete(path);
      const { message, context } = describeError(error);
      const missing = context['errno'] === 'ENOENT' || context['errno'] === 'ENOTDIR';
      if (missing && !required) return undefined;
      throw unreadable(
        path,
        error instanceof CheckpointError ? message : 'check that it exists and can be read',
      );
    }
  }

  async #ask(
    helper: string,
    registry: string,
    refused: readonly Credentials[],
  ): Promise<Credentials | undefined> {
    const key = `${helper} ${registry}`;
    const known = this.#answers.get(key);
    if (known) {
      if (this.#now() - known.askedAt < ASK_AGAIN_MS) return known.found;
      const answer = await known.found.catch(() => undefined);
      if (answer && !isRefused(answer, refused)) return answer;
    }
    // Another caller may have asked while this one waited.
    const latest = this.#answers.get(key);
    if (latest && latest !== known) return latest.found;
    const found = this.#run(helper, registry);
    this.#answers.set(key, { askedAt: this.#now(), found });
    return found;
  }

  async #run(helper: string, registry: string): Promise<Credentials | undefined> {
    const { askCredentialHelper } = await import('./credential-helper.ts');
    return askCredentialHelper(helper, helperServer(registry), {
      environment: this.#options.environment,
      timeoutMs: HELPER_TIMEOUT_MS,
      signal: this.#closed.signal,
    });
  }
}

/**
 * A file is itself. A folder is a mounted secret, or has secrets in folders of their own or as `*.json`. Names that begin
 * with ".." are the kubelet's, which lead to the same files.
 */
async function secretFiles(place: string): Promise<string[]> {
  let names: string[];
  try {
    names = (await readdir(place)).sort();
  } catch (error) {
    const { context } = describeError(error);
    if (context['errno'] === 'ENOTDIR') return [place];
    throw unreadable(place, 'check that it exists and can be read');
  }
  const files = SECRET_FILES.filter((name) => names.includes(name)).map((name) => join(place, name));
  for (const name of names.filter((each) => !each.startsWith('..') && !SECRET_FILES.includes(each))) {
    const path = join(place, name);
    if (name.endsWith('.json')) files.push(path);
    else files.push(...SECRET_FILES.map((inner) => join(path, inner)));
  }
  return files;
}

function unreadable(path: string, why: string): CheckpointError {
  return new CheckpointError(
    Code.invalidArgument,
    `Cannot read the registry credentials in "${path}": ${why}`,
  );
}
