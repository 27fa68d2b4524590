import { Code, CodedError, type CodedErrorOptions } from '../../proto/status.ts';

/** Why thaw cannot be installed or taken away; nothing that containerd reads was left half-changed. */
export class InstallError extends CodedError {}

export function refused(message: string, options?: CodedErrorOptions): InstallError {
  return new InstallError(Code.failedPrecondition, message, options);
}
