/** Kinds of failed fetches, for metrics. Pure. */
import { Code, describeError } from '../proto/status.ts';

export const FETCH_ERROR_KINDS = [
  'network',
  'server',
  'throttled',
  'credentials',
  'not_found',
  'no_ranges',
  'corrupt',
  'no_room',
  'other',
] as const;
export type FetchErrorKind = (typeof FETCH_ERROR_KINDS)[number];

export function fetchErrorKind(error: unknown): FetchErrorKind {
  const { code, context } = describeError(error);
  const answered = typeof context['status'] === 'number';
  switch (code) {
    case Code.unavailable:
      return answered ? 'server' : 'network';
    case Code.deadlineExceeded:
      return 'network';
    case Code.resourceExhausted:
      // A registry that answers 429 has the same code as a full disk.
      return answered ? 'throttled' : 'no_room';
    case Code.unauthenticated:
    case Code.permissionDenied:
      return 'credentials';
    case Code.notFound:
      return 'not_found';
    case Code.failedPrecondition:
      // With a directory it is a checkpoint in use that cannot be fetched anew.
      return context['directory'] === undefined ? 'no_ranges' : 'other';
    case Code.dataLoss:
      return 'corrupt';
    default:
      return 'other';
  }
}
