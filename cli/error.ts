import { Code, CodedError, describeError } from '../proto/status.ts';

/**
 * What a command failed with. The message says what was wrong and what to do; what lies beneath is the cause and is
 * printed on lines of its own.
 */
export class CliError extends CodedError {}

export const ExitStatus = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;
export type ExitStatus = (typeof ExitStatus)[keyof typeof ExitStatus];

/** The caller's mistake in the command line; ends with status 2. */
export function usageError(message: string): CliError {
  return new CliError(Code.invalidArgument, message, { context: { usage: true } });
}

export function exitStatusOf(caught: unknown): ExitStatus {
  const { code, context } = describeError(caught);
  if (code === Code.canceled) return ExitStatus.interrupted;
  return context.usage === true ? ExitStatus.usage : ExitStatus.failed;
}

/** Message first, then one line for each cause that says something new. */
export function errorLines(caught: unknown): string[] {
  const lines = [`thaw: ${oneLine(describeError(caught).message)}`];
  let cause: unknown = caught instanceof Error ? caught.cause : undefined;
  // A cause may be any object, also one that refers to itself.
  for (let depth = 0; cause !== undefined && cause !== null && depth < 8; depth++) {
    const message = oneLine(describeError(cause).message);
    if (message !== '' && !lines.some((line) => line.includes(message))) lines.push(`  cause: ${message}`);
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return lines;
}

function oneLine(text: string): string {
  return text.trim().replaceAll(/\s*\n\s*/g, '; ');
}
