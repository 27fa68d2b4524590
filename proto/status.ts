/**
 * Status codes shared by gRPC and ttrpc.
 * Source: google/rpc/code.proto; containerd's errdefs maps its error classes onto these.
 */
export const Code = {
  ok: 0,
  canceled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
  unauthenticated: 16,
} as const;
export type Code = (typeof Code)[keyof typeof Code];

/** Values that help to act on an error; logged as fields, never parsed. Never credentials. */
export type ErrorContext = Readonly<Record<string, string | number | bigint | boolean | undefined>>;

export interface CodedErrorOptions {
  cause?: unknown;
  context?: ErrorContext;
}

/**
 * Base of the one error class that each module has. The message is for the user: what was wrong and what to do, in
 * one sentence without a final period.
 */
export abstract class CodedError extends Error {
  /** The parts of a program may be bundled apart, each with a CodedError of its own: instanceof knows only one of them. */
  readonly isCoded = true;
  readonly code: Code;
  readonly context: ErrorContext;

  constructor(code: Code, message: string, options: CodedErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.context = options.context ?? {};
  }
}

function isCoded(caught: unknown): caught is CodedError {
  return caught instanceof Error && (caught as Partial<CodedError>).isCoded === true;
}

/** The one place where something caught becomes a code and a message. */
export function describeError(caught: unknown): { code: Code; message: string; context: ErrorContext } {
  if (isCoded(caught)) return { code: caught.code, message: caught.message, context: caught.context };
  if (caught instanceof Error) {
    const errno = (caught as NodeJS.ErrnoException).code;
    return { code: codeOfErrno(errno), message: caught.message, context: errno ? { errno } : {} };
  }
  return { code: Code.unknown, message: String(caught), context: {} };
}

function codeOfErrno(errno: string | undefined): Code {
  switch (errno) {
    case 'ENOENT':
    case 'ESRCH':
      return Code.notFound;
    case 'EEXIST':
      return Code.alreadyExists;
    case 'EACCES':
    case 'EPERM':
      return Code.permissionDenied;
    case 'ENOSPC':
    case 'EDQUOT':
    case 'ENOMEM':
    case 'EMFILE':
    case 'ENFILE':
      return Code.resourceExhausted;
    case 'ECONNREFUSED':
    case 'ECONNRESET':
    case 'EPIPE':
      return Code.unavailable;
    case 'ETIMEDOUT':
      return Code.deadlineExceeded;
    case 'EBUSY':
      return Code.failedPrecondition;
    default:
      return Code.unknown;
  }
}
