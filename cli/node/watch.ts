/** `thaw status --watch`: the table over and over, until interrupted. */
import { Code, describeError } from '../../proto/status.ts';
import type { StatusOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { printable } from '../ui/format.ts';
import { type NodeCheckpoint, withDaemon } from './daemon.ts';
import { statusLines } from './status.ts';

const EVERY_MS = 1_000;

/** Draws over itself on a terminal; elsewhere each change is written below the last, with --json as one line. */
export async function watchStatus(options: StatusOptions, context: Context): Promise<void> {
  const { signal } = context;
  const draw = options.json ? jsonLines(context) : drawer(context);
  const rates = new Rates(() => performance.now());
  for (let first = true; ; first = false) {
    let lines: string[];
    try {
      const contents = await withDaemon(options.socket, signal, (daemon) => daemon.listAll());
      rates.see([...contents.checkpoints, ...contents.layers]);
      lines = options.json ? [compactJson(contents)] : statusLines(contents, (id) => rates.of(id));
    } catch (error) {
      // A daemon that is being restarted comes back; one that never was there is an error as without --watch.
      if (first || signal.aborted) throw error;
      const { message } = describeError(error);
      lines = options.json ? [compactJson({ error: message })] : [printable(message)];
    }
    draw(lines);
    await pause(signal);
    if (signal.aborted) throw new CliError(Code.canceled, 'Interrupted');
  }
}

/** Bytes a second that each checkpoint's part on this node grows by, between the last two looks. */
export class Rates {
  readonly #now: () => number;
  #seen = new Map<string, { at: number; present: bigint; rate: number }>();

  /** `now`: monotonic milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  see(checkpoints: readonly Pick<NodeCheckpoint, 'id' | 'presentBytes'>[]): void {
    const at = this.#now();
    this.#seen = new Map(
      checkpoints.map(({ id, presentBytes: present }) => {
        const before = this.#seen.get(id);
        const grown = before ? Number(present - before.present) : 0;
        const rate = before && at > before.at ? Math.max(0, (grown / (at - before.at)) * 1000) : 0;
        return [id, { at, present, rate }];
      }),
    );
  }

  of(id: string): number {
    return this.#seen.get(id)?.rate ?? 0;
  }
}

/** Over what it drew before, where that can be; else below, if it is something new. */
export function drawer({ screen }: Pick<Context, 'screen'>): (lines: readonly string[]) => void {
  let drawn: readonly string[] = [];
  return (lines) => {
    if (screen.live) {
      const up = drawn.length > 0 ? `\u001b[${drawn.length}A\r\u001b[J` : '';
      screen.write(`${up}${lines.join('\n')}\n`);
    } else if (lines.join('\n') !== drawn.join('\n')) {
      screen.write(`${drawn.length > 0 ? '\n' : ''}${lines.join('\n')}\n`);
    }
    drawn = lines;
  };
}

function jsonLines({ screen }: Pick<Context, 'screen'>): (lines: readonly string[]) => void {
  let last = '';
  return ([line = '']) => {
    if (line !== last) screen.write(`${line}\n`);
    last = line;
  };
}

function compactJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? Number(item) : item));
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, EVERY_MS);
    signal.addEventListener('abort', done, { once: true });
  });
}
