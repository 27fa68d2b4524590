import { Code, describeError } from '../proto/status.ts';
import { CliError } from './error.ts';

/**
 * What must be undone when a command ends, however it ends: last made, first undone. A failing part does not keep the
 * others from running.
 */
export class Cleanup {
  readonly #parts: { what: string; undo: () => Promise<unknown> }[] = [];

  /** `what` completes "Cannot …". The returned function undoes this part now, once. */
  add(what: string, undo: () => Promise<unknown>): () => Promise<void> {
    const part = { what, undo };
    this.#parts.push(part);
    return async () => {
      const at = this.#parts.indexOf(part);
      if (at === -1) return;
      this.#parts.splice(at, 1);
      await undo();
    };
  }

  /** Returns what could not be undone. */
  async run(): Promise<CliError[]> {
    const failures: CliError[] = [];
    for (let part = this.#parts.pop(); part !== undefined; part = this.#parts.pop()) {
      try {
        await part.undo();
      } catch (error) {
        const { code, message } = describeError(error);
        failures.push(new CliError(code, `Cannot ${part.what}: ${message}`));
      }
    }
    return failures;
  }
}

/** Throws if the user asked to stop. */
export function checkInterrupted(signal: AbortSignal): void {
  if (signal.aborted) throw new CliError(Code.canceled, 'Interrupted');
}

/** For undoing what may never have been made: a call that failed can have worked or not. */
export async function ignoreMissing(removal: Promise<unknown>): Promise<void> {
  try {
    await removal;
  } catch (error) {
    if (describeError(error).code !== Code.notFound) throw error;
  }
}
