import { CodedError } from '../../proto/status.ts';

/** What a container is told of its restore, or asks for, and cannot have. */
export class IdentityError extends CodedError {}
