import { CodedError } from '../../proto/status.ts';

/** A step of the demo that could not be done, or a promise that did not hold. */
export class DemoError extends CodedError {}
