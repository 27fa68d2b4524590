import { Code, CodedError } from '../../proto/status.ts';

/** What goes wrong on the way to a restore. Becomes the reason of a cold start, or the error under `require`. */
export class RestoreError extends CodedError {}

/** The pod wants a restore or nothing, and there can be none. */
export class RestoreRefused extends RestoreError {
  readonly reasons: readonly string[];

  constructor(reasons: readonly string[]) {
    super(
      Code.failedPrecondition,
      `Cannot restore the checkpoint, and thaw.dev/restore is "require": ${reasons.join('; ')}`,
    );
    this.reasons = reasons;
  }
}
