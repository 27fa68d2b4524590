import { CodedError } from '../../../proto/status.ts';

/** What went wrong between the client and the CRI endpoint. `code` is the gRPC status code. */
export class CriError extends CodedError {}
