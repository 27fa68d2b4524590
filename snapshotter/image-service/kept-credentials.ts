/**
 * Credentials that a kubelet gave with a pull, in memory alone, for the repository that they were given for and no other:
 * pods of one node are not each other's.
 */
import {
  type CredentialRequest,
  type Credentials,
  isRefused,
  type Reference,
  sameCredentials,
} from '../../checkpoint/registry/index.ts';

type Repository = Pick<Reference, 'registry' | 'repository'>;

interface Kept {
  credentials: Credentials;
  /** Monotonic milliseconds. */
  until: number;
}

/** Secrets of one repository, the newest first. */
const MAX_EACH = 4;
const MAX_REPOSITORIES = 1_000;
const FORGET_EVERY_MS = 60_000;

export class KeptCredentials {
  readonly #keepMs: number;
  readonly #now: () => number;
  /** In the order of their last pull. */
  readonly #kept = new Map<string, Kept[]>();
  readonly #timer: NodeJS.Timeout;

  /** `keepMs`: from the last pull with them on. `now`: monotonic milliseconds. */
  constructor(keepMs: number, now: () => number = () => performance.now()) {
    this.#keepMs = keepMs;
    this.#now = now;
    this.#timer = setInterval(() => this.#forget(), FORGET_EVERY_MS).unref();
  }

  /** How many there are. */
  get count(): number {
    this.#forget();
    return [...this.#kept.values()].reduce((sum, each) => sum + each.length, 0);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#kept.clear();
  }

  keep(repository: Repository, credentials: Credentials): void {
    this.#forget();
    const key = keyOf(repository);
    const others = (this.#kept.get(key) ?? []).filter(
      (kept) => !sameCredentials(kept.credentials, credentials),
    );
    const newest = { credentials, until: this.#now() + this.#keepMs };
    this.#kept.delete(key);
    this.#kept.set(key, [newest, ...others].slice(0, MAX_EACH));
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > MAX_REPOSITORIES && oldest !== undefined) this.#kept.delete(oldest);
  }

  /** The newest that were not refused. A mirror has another name than its registry, and gets none. */
  find({ refused, ...repository }: CredentialRequest): Credentials | undefined {
    this.#forget();
    const kept = this.#kept.get(keyOf(repository)) ?? [];
    return kept.find(({ credentials }) => !isRefused(credentials, refused))?.credentials;
  }

  #forget(): void {
    const now = this.#now();
    for (const [key, each] of this.#kept) {
      const left = each.filter(({ until }) => until > now);
      if (left.length === 0) this.#kept.delete(key);
      else if (left.length < each.length) this.#kept.set(key, left);
    }
  }
}

function keyOf({ registry, repository }: Repository): string {
  return `${registry}/${repository}`;
}
