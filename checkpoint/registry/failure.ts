import type { IncomingHttpHeaders } from 'node:http';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';

/** Whom a failure is about. */
export interface Subject {
  /** Registry host as in the reference. */
  registry: string;
  repository: string;
  /** What was tried, behind "Cannot": 'read the blob sha256:…'. */
  action: string;
}

/** The error for a status that is not the one hoped for. `body` is the start of the answer. */
export function statusFailure(
  subject: Subject,
  status: number,
  headers: IncomingHttpHeaders,
  body: string,
): CheckpointError {
  const { registry, repository, action } = subject;
  const detail = registryMessage(body);
  const retryAfterMs = status === 429 || status === 503 ? retryAfter(headers) : undefined;
  return new CheckpointError(
    codeOf(status),
    `Cannot ${action}: registry ${registry} answered ${status} for ${repository}${detail ? ` (${detail})` : ''}; ${advice(status, registry)}`,
    { context: { registry, repository, status, retryAfterMs } },
  );
}

/** The error for a request that got no usable answer. */
export function transportFailure(subject: Subject, why: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    Code.unavailable,
    `Cannot ${subject.action}: ${why} (registry ${subject.registry}, repository ${subject.repository}); check the network and that the registry is up`,
    { cause, context: { registry: subject.registry, repository: subject.repository } },
  );
}

/** The error for bytes that are not what was asked for. */
export function contentFailure(subject: Subject, why: string): CheckpointError {
  return new CheckpointError(
    Code.dataLoss,
    `Cannot ${subject.action}: ${why} (registry ${subject.registry}, repository ${subject.repository})`,
    { context: { registry: subject.registry, repository: subject.repository } },
  );
}

export function deadlineFailure(subject: Subject, ms: number, waitedFor: string): CheckpointError {
  return new CheckpointError(
    Code.deadlineExceeded,
    `Cannot ${subject.action}: registry ${subject.registry} sent ${waitedFor} within ${ms} ms; check the network`,
    { context: { registry: subject.registry, repository: subject.repository, ms } },
  );
}

/** The error for an aborted signal: deadlineExceeded if it is AbortSignal.timeout's, else canceled. */
export function abortFailure(subject: Subject, signal: AbortSignal): CheckpointError {
  const timedOut = signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError';
  return new CheckpointError(
    timedOut ? Code.deadlineExceeded : Code.canceled,
    timedOut ? `Cannot ${subject.action} in the time given` : `Cannot ${subject.action}: canceled`,
    { context: { registry: subject.registry, repository: subject.repository } },
  );
}

function codeOf(status: number): Code {
  switch (status) {
    case 400:
    case 405:
    case 413:
      return Code.invalidArgument;
    case 401:
      return Code.unauthenticated;
    case 403:
      return Code.permissionDenied;
    case 404:
      return Code.notFound;
    case 408:
      return Code.unavailable;
    case 416:
      return Code.outOfRange;
    case 429:
      return Code.resourceExhausted;
    default:
      return status >= 500 ? Code.unavailable : Code.unknown;
  }
}

function advice(status: number, registry: string): string {
  switch (status) {
    case 401:
      return `log in with "docker login ${registry}" or give a docker config.json with credentials for it`;
    case 403:
      return 'ask for access to the repository, or log in as somebody who has it';
    case 404:
      return 'check the name and tag';
    case 405:
      return 'the registry does not allow this; check that it accepts pushes';
    case 413:
      return 'the registry limits the size of a blob; make data layers smaller';
    case 429:
      return 'the registry limits requests; wait or log in';
    default:
      return status >= 500
        ? 'look into the logs of the registry or try again'
        : 'check that it is a registry';
  }
}

/** First error of the distribution-spec's JSON error body, made safe to print. */
function registryMessage(body: string): string {
  try {
    const value: unknown = JSON.parse(body);
    const errors = value && typeof value === 'object' && 'errors' in value ? value.errors : undefined;
    const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
    if (!first || typeof first !== 'object') return '';
    const code = 'code' in first && typeof first.code === 'string' ? first.code : '';
    const message = 'message' in first && typeof first.message === 'string' ? first.message : '';
    return `${code}: ${message}`.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
  } catch {
    return '';
  }
}

/** Retry-After in milliseconds: seconds or an HTTP date (RFC 9110 §10.2.3); undefined without a usable one. */
export function retryAfter(headers: IncomingHttpHeaders, now = Date.now()): number | undefined {
  const text = headers['retry-after'];
  if (typeof text !== 'string') return undefined;
  if (/^[0-9]{1,6}$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
