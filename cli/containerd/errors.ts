import type { ServiceError } from '@grpc/grpc-js';
import { Code, describeError } from '../../proto/status.ts';
import { CliError } from '../error.ts';

const codes = new Set<number>(Object.values(Code));

function isServiceError(caught: unknown): caught is ServiceError {
  return (
    caught instanceof Error && 'details' in caught && 'code' in caught && typeof caught.code === 'number'
  );
}

/**
 * One CliError for whatever a call failed with. `action` completes "Cannot …", for example "read the image foo".
 * What went wrong inside containerd keeps its own words.
 */
export function containerdError(caught: unknown, action: string, address: string): CliError {
  if (caught instanceof CliError) return caught;
  if (!isServiceError(caught))
    return new CliError(describeError(caught).code, `Cannot ${action}: ${describeError(caught).message}`, {
      cause: caught,
    });
  const code = codes.has(caught.code) ? (caught.code as Code) : Code.unknown;
  switch (code) {
    case Code.unavailable:
      return new CliError(
        code,
        `Cannot reach containerd at ${address}: start containerd, or name its socket with --address`,
        { cause: new CliError(code, caught.details) },
      );
    case Code.deadlineExceeded:
      return new CliError(
        code,
        `Cannot ${action}: containerd did not answer in time; look at its log for what it waits for`,
        { cause: new CliError(code, caught.details) },
      );
    case Code.canceled:
      return new CliError(code, `Interrupted while trying to ${action}`);
    case Code.permissionDenied:
      return new CliError(code, `Cannot ${action}: containerd denied it; run as root`, { cause: caught });
    default:
      return new CliError(code, `Cannot ${action}: ${caught.details}`);
  }
}
