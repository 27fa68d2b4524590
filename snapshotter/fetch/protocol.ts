/** What the daemon and its fetch threads tell each other. Chunk data never crosses, only ordinals and counts. */
import type { CredentialRequest, Credentials } from '../../checkpoint/registry/index.ts';
import { describeError, type ErrorContext } from '../../proto/status.ts';
import type { RangeJob, SourceSpec } from '../cache/index.ts';
import { SnapshotError } from '../error.ts';
import type { HostAccess } from '../remote/registries.ts';

/** workerData: how registries are reached, from the configuration. */
export interface WorkerSetup {
  hosts: Readonly<Record<string, HostAccess>>;
  hostsDirs: readonly string[];
  /** What the thread yields to others, as setpriority(2) counts it: from 0, nothing, to 19. */
  nice: number;
}

export type ToWorker =
  | { kind: 'fetch'; job: number; range: RangeJob; source: SourceSpec; directory: string }
  | { kind: 'abort'; job: number }
  | { kind: 'credentials'; ask: number; found: Credentials | undefined }
  | { kind: 'no credentials'; ask: number; error: SentError };

export type FromWorker = JobReport | CredentialsWanted;

/** Only the daemon itself reads files of credentials and runs helpers: once, not once a thread. */
export interface CredentialsWanted {
  kind: 'credentials';
  ask: number;
  request: CredentialRequest;
}

/** `bytes`: received for the job since its last message; `mirrored`: how many of them from a mirror. */
export type JobReport = { job: number; bytes: number; mirrored: number } & (
  | { kind: 'stored'; ordinal: number }
  | { kind: 'corrupt'; ordinal: number; error: SentError }
  | { kind: 'unreadable'; error: SentError }
  | { kind: 'done' }
  | { kind: 'failed'; error: SentError }
);

/** Error classes do not survive the way. */
export interface SentError {
  code: SnapshotError['code'];
  message: string;
  context: ErrorContext;
}

export function packError(error: unknown): SentError {
  const { code, message, context } = describeError(error);
  return { code, message, context };
}

export function unpackError({ code, message, context }: SentError): SnapshotError {
  return new SnapshotError(code, message, { context });
}
