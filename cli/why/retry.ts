import { type FailedRestore, FailedRestores } from '../../node-state/failed-restores.ts';
import { Code } from '../../proto/status.ts';
import type { RetryOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { printable, shortDigest } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';

/** `thaw retry`. */
export async function runRetry(
  { checkpoint, json }: RetryOptions,
  context: Pick<Context, 'print'>,
  failures = new FailedRestores(),
): Promise<void> {
  const found = failures
    .list()
    .filter((failure) => checkpoint === undefined || isCalled(failure, checkpoint));
  if (found.length === 0 && checkpoint !== undefined)
    throw new CliError(
      Code.notFound,
      `Cannot find a failed restore of ${printable(checkpoint)} on this node: it is tried at the next start as it is`,
    );
  for (const failure of found) failures.remove(failure);
  if (json) return context.print(toJson({ forgotten: found }));
  if (found.length === 0) context.print('No restore has failed on this node');
  for (const { checkpoint: id, at, reason } of found)
    context.print(
      `Will be tried again: ${shortDigest(printable(id))}, which failed at ${at}: ${printable(reason)}`,
    );
}

function isCalled({ checkpoint }: FailedRestore, prefix: string): boolean {
  const bare = prefix.replace(/^sha256:/, '').replace(/…$/, '');
  return bare !== '' && checkpoint.replace(/^sha256:/, '').startsWith(bare);
}
