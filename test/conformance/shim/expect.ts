/** What cases assert more than once. */
import { expect } from 'vitest';
import { type Code, describeError } from '../../../proto/status.ts';

/** The call fails with this code and, where it is given, a message like this. */
export async function fails(call: Promise<unknown>, code: Code, message?: RegExp): Promise<void> {
  const outcome = await call.then(
    () => ({ code: 'no error', message: '' }),
    (error: unknown) => describeError(error),
  );
  expect(outcome, outcome.message).toMatchObject({ code });
  if (message) expect(outcome.message).toMatch(message);
}
