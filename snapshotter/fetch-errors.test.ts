import { expect, it } from 'vitest';
import { Code } from '../proto/status.ts';
import { SnapshotError } from './error.ts';
import { type FetchErrorKind, fetchErrorKind } from './fetch-errors.ts';

it.each<[FetchErrorKind, Code, Record<string, string | number>]>([
  ['network', Code.unavailable, {}],
  ['network', Code.deadlineExceeded, { ms: 5 }],
  ['server', Code.unavailable, { status: 503 }],
  ['throttled', Code.resourceExhausted, { status: 429 }],
  ['no_room', Code.resourceExhausted, { errno: 'ENOSPC' }],
  ['credentials', Code.unauthenticated, { status: 401 }],
  ['credentials', Code.permissionDenied, { status: 403 }],
  ['not_found', Code.notFound, { status: 404 }],
  ['corrupt', Code.dataLoss, {}],
  ['no_ranges', Code.failedPrecondition, {}],
  ['other', Code.failedPrecondition, { directory: '/cache/x' }],
  ['other', Code.internal, {}],
])('calls it %s', (kind, code, context) => {
  expect(fetchErrorKind(new SnapshotError(code, 'no', { context }))).toBe(kind);
});
