import { Progress, type ProgressTarget } from './ui/progress.ts';

/** What every command gets from main.ts: nothing else reads the environment or writes to a terminal. */
export interface Context {
  /** Standard output: what was asked for, a line each. */
  print(line: string): void;
  /** Standard output for what is drawn over again; `live` unless it goes into a file or another program. */
  screen: { live: boolean; write(text: string): void };
  /** Standard error: what the user should know beside it. */
  warn(line: string): void;
  progress: Progress;
  /** Aborted by SIGINT and SIGTERM: stop, undo, end. */
  signal: AbortSignal;
  env: Readonly<Record<string, string | undefined>>;
}

export function createContext(
  streams: { stdout: { write(text: string): unknown; isTTY?: boolean | undefined }; stderr: ProgressTarget },
  signal: AbortSignal,
  env: Context['env'],
): Context {
  const progress = new Progress(streams.stderr);
  return {
    print: (line) => void streams.stdout.write(`${line}\n`),
    screen: {
      live: streams.stdout.isTTY === true,
      write: (text) => void streams.stdout.write(text),
    },
    warn: (line) => progress.note(line),
    progress,
    signal,
    env,
  };
}
