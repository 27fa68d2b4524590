/**
 * Runs build/test/fake-criu: pretended CRIU, pretended restored processes, and the slow reference page server. For the
 * tests of page servers only. A layout is written once and given to everybody; every program has a deadline and goes
 * with its test.
 */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';

const PROGRAM = join(import.meta.dirname, '../../build/test/fake-criu');
export const PAGE_BYTES = 4096;

/** A pagemap entry: its pages are page `first` and the following of the process's pages file. */
export interface Run {
  address: bigint;
  pages: number;
  first: number;
  /** CRIU fills it before it registers the mapping (a pagemap entry without PE_LAZY). */
  eager?: boolean;
}

/** A restored process. What no run covers is zero. */
export interface FakeProcess {
  /** As in the checkpoint, below 65536; not the number that it has on this machine. */
  pid: number;
  /** Private anonymous mappings, below 2^44. */
  vmas: readonly { address: bigint; pages: number }[];
  runs: readonly Run[];
  /** Pages of the file that are zero, beside every seventh. */
  zeros?: readonly { first: number; pages: number }[];
}

export interface Zombie {
  pid: number;
  zombie: true;
}

export interface Layout {
  seed: number;
  processes: readonly (FakeProcess | Zombie)[];
}

export type Scenario =
  | 'read-all'
  | 'read-random'
  | 'write-first'
  | 'dontneed'
  | 'mremap'
  | 'munmap'
  | 'mprotect'
  | 'fork'
  | 'many'
  | 'big'
  | 'exit'
  | 'all';

/** Mistakes that the reference server can be told to make; fake-criu/server.h says what they are. */
export type Bug =
  | 'ignore-remove'
  | 'ignore-unmap'
  | 'ignore-remap'
  | 'ignore-fork'
  | 'late-copy'
  | 'int-length'
  | 'give-up'
  | 'other-page';

/** Why there can be no userfaultfd with events here; empty if there can. */
export function whyNotPermitted(): string {
  const { status, stdout } = spawnSync(PROGRAM, ['permitted'], { encoding: 'utf8', timeout: 10_000 });
  return status === 0 ? '' : stdout.trim() || 'build/test/fake-criu does not run';
}

function isZombie(process: FakeProcess | Zombie): process is Zombie {
  return 'zombie' in process;
}

function linesOf(process: FakeProcess | Zombie): string[] {
  if (isZombie(process)) return [`zombie ${process.pid}`];
  return [
    `process ${process.pid}`,
    ...process.vmas.map(({ address, pages }) => `vma ${address} ${pages}`),
    ...process.runs.map(
      ({ address, pages, first, eager }) => `${eager ? 'eager' : 'lazy'} ${address} ${pages} ${first}`,
    ),
    ...(process.zeros ?? []).map(({ first, pages }) => `zero ${first} ${pages}`),
  ];
}

/** A layout on disk, with its pages files. */
export interface Checkpoint {
  layout: Layout;
  layoutFile: string;
  folder: string;
  /** The pages file of a process, raw pages like CRIU's. */
  pagesFile(pid: number): string;
}

export function makeCheckpoint(folder: string, layout: Layout): Checkpoint {
  const layoutFile = join(folder, 'layout');
  writeFileSync(layoutFile, [`seed ${layout.seed}`, ...layout.processes.flatMap(linesOf), ''].join('\n'));
  const made = spawnSync(PROGRAM, ['pages', `--layout=${layoutFile}`, `--pages=${folder}`], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  if (made.status !== 0) throw new Error(`fake-criu pages: ${made.stderr || made.signal}`);
  return { layout, layoutFile, folder, pagesFile: (pid) => join(folder, `pages-${pid}.img`) };
}

export interface Ended {
  /** 0 all right, 1 memory was wrong or somebody hung, 2 broken itself, 3 a process was killed; null by a signal. */
  status: number | null;
  /** All that it said, standard error too. */
  output: string;
}

interface Program {
  child: ChildProcess;
  ended: Promise<Ended>;
  /** When it has said this line, which starts so; rejects if it ends before. */
  said(line: string): Promise<void>;
  lines: string[];
}

function run(args: readonly string[], limitMs: number): Program {
  const child = spawn(PROGRAM, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const lines: string[] = [];
  const waiting: { line: string; resolve: () => void }[] = [];
  const take = (line: string): void => {
    lines.push(line);
    for (const one of waiting) if (line.startsWith(one.line)) one.resolve();
  };
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', take);
  // It may be gone before it is written to.
  child.stdin.on('error', () => {});
  const deadline = setTimeout(() => child.kill('SIGKILL'), limitMs);
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => {
      clearTimeout(deadline);
      resolve({ status, output: lines.join('\n') });
    });
  });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended.catch(() => {});
  });
  const said = (line: string): Promise<void> =>
    new Promise((resolve, reject) => {
      if (lines.some((one) => one.startsWith(line))) return resolve();
      waiting.push({ line, resolve });
      ended.then(({ output }) => reject(new Error(`It never said '${line}': ${output}`)), reject);
    });
  return { child, ended, said, lines };
}

export interface RestoreOptions {
  scenario: Scenario;
  seed?: number;
  threads?: number;
  /** For each thread. */
  operations?: number;
  /** Instead of operations. */
  seconds?: number;
  /** How long the scenario may take until it counts as hanging. */
  timeoutSeconds?: number;
  /** From handing a userfaultfd over until the memory is mapped and registered. */
  mapDelayMs?: number;
  /** The scenario starts with go(), not as soon as all processes are handed over. */
  wait?: boolean;
  /** The scenario starts before the page server is told that all processes are there. */
  early?: boolean;
  /** The processes stay until finish(), and check all their memory once more then. */
  keep?: boolean;
}

export interface Restore {
  /** Numbers on this machine, by number in the checkpoint; complete when `ready` has resolved. */
  pids(): Map<number, number>;
  /** The program itself: if it is killed, all its processes are. */
  child: ChildProcess;
  /** The page server has been told that all processes are there. */
  ready: Promise<void>;
  go(): void;
  /** All processes are through with the scenario (with `keep`). */
  done(): Promise<void>;
  finish(): void;
  ended: Promise<Ended>;
}

/** The page server must listen on `socket` already. */
export function startRestore(checkpoint: Checkpoint, socket: string, options: RestoreOptions): Restore {
  const { timeoutSeconds = 20 } = options;
  const args = ['restore', `--socket=${socket}`, `--layout=${checkpoint.layoutFile}`];
  args.push(`--scenario=${options.scenario}`, `--timeout=${timeoutSeconds}`);
  for (const name of ['seed', 'threads', 'operations', 'seconds'] as const)
    if (options[name] !== undefined) args.push(`--${name}=${options[name]}`);
  if (options.mapDelayMs !== undefined) args.push(`--map-delay-ms=${options.mapDelayMs}`);
  for (const name of ['wait', 'early', 'keep'] as const) if (options[name]) args.push(`--${name}`);
  const program = run(args, (2 * timeoutSeconds + 5) * 1000);
  const ready = program.said('ready');
  // Whoever waits for the end only is told there.
  ready.catch(() => {});
  return {
    child: program.child,
    ended: program.ended,
    ready,
    go: () => void program.child.stdin?.write('\n'),
    done: () => program.said('done'),
    finish: () => void program.child.stdin?.end(),
    pids: () =>
      new Map(
        program.lines.flatMap((line) => {
          const [, pid, host] = /^pid (\d+) (\d+)$/.exec(line) ?? [];
          return pid && host ? [[Number(pid), Number(host)] as const] : [];
        }),
      ),
  };
}

export interface ReferenceOptions {
  bug?: Bug;
  /** Between pages that nobody asked for. */
  pauseUs?: number;
}

/** Serves one restore with the reference server, which ends by itself when all its processes have ended. */
export async function startReferenceServer(
  checkpoint: Checkpoint,
  socket: string,
  { bug, pauseUs }: ReferenceOptions = {},
): Promise<{ child: ChildProcess; ended: Promise<Ended> }> {
  const args = ['serve-slow', `--socket=${socket}`, `--layout=${checkpoint.layoutFile}`];
  args.push(`--pages=${checkpoint.folder}`);
  if (bug) args.push(`--bug=${bug}`);
  if (pauseUs !== undefined) args.push(`--pause-us=${pauseUs}`);
  const program = run(args, 60_000);
  await program.said('listening');
  return program;
}

/** Where the layouts of the tests begin, and a number of pages in bytes. */
export const BASE = 0x100_0000_0000n;
export const page = (number: number): bigint => BigInt(number * PAGE_BYTES);

/** A mapping of 6 GiB of which the file has a little at the ends, at 1 GiB, and across 2 and 4 GiB. */
export const BIG: Layout = {
  seed: 9,
  processes: [
    {
      pid: 100,
      vmas: [{ address: BASE, pages: 6 << 18 }],
      runs: [
        { address: BASE, pages: 40, first: 0 },
        { address: BASE + page(1 << 18), pages: 64, first: 40 },
        { address: BASE + page((2 << 18) - 32), pages: 64, first: 200 },
        { address: BASE + page((4 << 18) - 32), pages: 64, first: 300 },
        { address: BASE + page((6 << 18) - 40), pages: 40, first: 400 },
      ],
    },
  ],
};

/** A hundred small processes. */
export const MANY: Layout = {
  seed: 5,
  processes: Array.from({ length: 100 }, (_, i) => ({
    pid: 200 + i,
    vmas: [{ address: BASE + page(i * 64), pages: 24 }],
    runs: [{ address: BASE + page(i * 64), pages: 20, first: i }],
  })),
};
