import { Code, describeError } from '../proto/status.ts';

/** Undefined for what is not there. */
export async function orUndefined<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (describeError(error).code === Code.notFound) return undefined;
    throw error;
  }
}
