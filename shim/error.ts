import { CodedError } from '../proto/status.ts';

/** What a shim answers when a request cannot be done. Where containerd compares texts, the text is that of its own shim. */
export class ShimError extends CodedError {}
