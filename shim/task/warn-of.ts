import { Code, describeError } from '../../proto/status.ts';
import type { Log } from '../log.ts';

/** For what goes on all the same: logs an error, unless it says that something is not there any more. */
export function warnOf(log: Log, what: string): (error: unknown) => void {
  return (error) => {
    const { code, message } = describeError(error);
    if (code !== Code.notFound) log.warn({ reason: message }, what);
  };
}
