/** The probe (probe.cc) that asks a worker and looks at its memory from outside, as a child process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { Code } from '../../../proto/status.ts';
import { run } from '../../../test/lib/index.ts';
import { BenchError } from '../error.ts';

/** Built by scripts/bench. */
const programs = join(import.meta.dirname, '../../../build/bench');
export const workerProgram = join(programs, 'worker');
const probeProgram = join(programs, 'probe');

/** The worker's socket in its root file system. */
export const SOCKET = 'run/worker.sock';

/** Longer than the probe itself waits for anything. */
const DEADLINE_MS = 300_000;

/** What an action of the probe found; times are nanoseconds of CLOCK_MONOTONIC. */
export interface Outcome {
  action: string;
  began: number;
  ended: number;
  value: string;
  /** Nanoseconds each. */
  latencies: number[];
}

/** The same clock as the probe's. A double holds it exactly for the first hundred days of a machine. */
export function nowNs(): number {
  return Number(process.hrtime.bigint());
}

/** One running `probe ask`. */
export class Probe {
  readonly #child: ChildProcess;
  readonly #outcomes: Promise<Outcome[]>;

  /** Starts at once; `actions` as in probe.cc. */
  constructor(rootfs: string, actions: readonly string[]) {
    this.#child = spawn(probeProgram, ['ask', rootfs, SOCKET, ...actions], {
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: DEADLINE_MS,
      killSignal: 'SIGKILL',
    });
    this.#outcomes = collect(this.#child);
    // Who waits for them may be busy with the restore that they depend on, and that may fail first.
    this.#outcomes.catch(() => {});
  }

  /** Ends the wait of an action `go`. */
  go(): void {
    this.#child.stdin?.write('go\n');
  }

  outcomes(): Promise<Outcome[]> {
    return this.#outcomes;
  }

  /** Where what it waits for will not come. */
  stop(): void {
    this.#child.kill('SIGKILL');
  }
}

async function collect(child: ChildProcess): Promise<Outcome[]> {
  const output = { stdout: '', stderr: '' };
  child.stdout?.on('data', (part: Buffer) => {
    output.stdout += part.toString();
  });
  child.stderr?.on('data', (part: Buffer) => {
    output.stderr += part.toString();
  });
  child.stdin?.on('error', () => {});
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new BenchError(Code.unavailable, `The probe failed: ${output.stderr.trim()}`);
  return output.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Outcome);
}

/** The outcome of the first action of that name. */
export function outcome(outcomes: readonly Outcome[], action: string): Outcome {
  const found = outcomes.find((candidate) => candidate.action === action);
  if (found === undefined) throw new BenchError(Code.internal, `The probe has not done '${action}'`);
  return found;
}

/** Asks a worker that is there. */
export function ask(rootfs: string, actions: readonly string[]): Promise<Outcome[]> {
  return new Probe(rootfs, actions).outcomes();
}

/** Writes the list of pages that a checkpoint of the process must bring back; their bytes. */
export async function listPages(pid: number, file: string): Promise<number> {
  const { stdout } = await run(probeProgram, ['pages', String(pid), file]);
  return (JSON.parse(stdout) as { bytes: number }).bytes;
}

/** Nanoseconds in which the machine fills fresh memory. */
export async function fillMemory(mib: number, threads: number): Promise<number> {
  const { stdout } = await run(probeProgram, ['fill', String(mib), String(threads)]);
  return (JSON.parse(stdout) as { ns: number }).ns;
}
