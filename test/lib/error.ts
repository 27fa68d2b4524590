import { CodedError } from '../../proto/status.ts';

/** What went wrong in a helper of the tests: a program that did not start, a deadline, something left behind. */
export class TestError extends CodedError {}
