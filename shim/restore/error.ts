import { CodedError } from '../../proto/status.ts';

/** What goes wrong on the way to a restore. Becomes the reason of a cold start, or the error under `require`. */
export class RestoreError extends CodedError {}
