/** What the pod, or else the checkpoint, wants done in the container once it is restored. Pure. */
import { constants } from 'node:os';
import type { AfterRestore } from '../../checkpoint/facts.ts';
import { Code } from '../../proto/status.ts';
import { annotationOf } from '../annotation.ts';
import { IdentityError } from './error.ts';

/** Annotation of the pod: a signal for the container's first process, as "SIGUSR1" or "USR1". */
const SIGNAL_ANNOTATION = 'thaw.dev/restored-signal';
/** Annotation of the pod: a command to run in the container, as a JSON array of strings. */
const EXEC_ANNOTATION = 'thaw.dev/restored-exec';

/** An empty annotation takes away what the checkpoint says. Throws what cannot be understood, in the user's words. */
export function afterRestore(
  annotations: Readonly<Record<string, string>> = {},
  saved: AfterRestore = {},
): AfterRestore {
  const [signalKey, signal] = annotationOf(annotations, SIGNAL_ANNOTATION) ?? ['', saved.signal ?? ''];
  const exec = annotationOf(annotations, EXEC_ANNOTATION);
  const command = exec ? commandOf(...exec) : saved.exec;
  return {
    ...(signal === '' ? {} : { signal: signalName(signalKey, signal) }),
    ...(command === undefined || command.length === 0 ? {} : { exec: command }),
  };
}

export function signalNumber(name: string): number {
  return (constants.signals as Readonly<Record<string, number>>)[name] ?? 0;
}

function signalName(annotation: string, text: string): string {
  const name = text.startsWith('SIG') ? text : `SIG${text}`;
  // These two are not for the process to handle.
  if (signalNumber(name) === 0 || name === 'SIGKILL' || name === 'SIGSTOP')
    throw refused(annotation, text, 'use the name of a signal that can be handled, as SIGUSR1');
  return name;
}

function commandOf(annotation: string, text: string): string[] {
  if (text === '') return [];
  try {
    const parsed: unknown = JSON.parse(text);
    if (Array.isArray(parsed) && parsed.length > 0 && parsed.every((word) => typeof word === 'string'))
      return parsed;
  } catch {
    // no JSON
  }
  throw refused(annotation, text, 'use a JSON array, as ["/bin/resume", "--now"]');
}

function refused(annotation: string, value: string, advice: string): IdentityError {
  return new IdentityError(
    Code.invalidArgument,
    annotation === ''
      ? `the checkpoint wants ${JSON.stringify(value)} done after a restore`
      : `the annotation ${annotation} is ${JSON.stringify(value)}; ${advice}`,
  );
}
