import { CodedError } from '../../proto/status.ts';

/** Something that could not be measured. A number that is bad is no error. */
export class BenchError extends CodedError {}
