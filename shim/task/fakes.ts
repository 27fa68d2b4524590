/** Stand-ins for the kernel, runc and containerd's bus, for unit tests of the task service. */
import { appendFileSync, closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import type { ContainerCgroup } from '../cgroup/index.ts';
import type { TaskEvent } from '../events/index.ts';
import type { MountCalls } from '../mounts/index.ts';
import type { Exit } from '../process/exits.ts';
import type { ChildOptions, ChildResult, Spawner } from '../process/spawn.ts';
import type { ExecFifoCalls } from '../runc/exec-fifo.ts';
import type { IoDeps } from '../stdio/index.ts';

/** Runc as a program: makes processes out of numbers, and fails where told to. */
export class FakeRunc implements Spawner {
  readonly calls: string[] = [];
  readonly stdio: ChildOptions['stdio'][] = [];
  /** What update calls read from their stdin. */
  readonly inputs: string[] = [];
  nextPid = 100;
  /** Error message of the next call of a command, once. */
  readonly failures = new Map<string, string>();
  /** Runs before a command answers. */
  readonly hooks = new Map<string, () => void | Promise<void>>();

  async run(_file: string, args: readonly string[], options: ChildOptions): Promise<ChildResult> {
    const at = args.indexOf('--log-format') + 2;
    const command = args[at] ?? '';
    const id = args.at(command === 'kill' ? -2 : -1) ?? '';
    this.calls.push(
      command === 'kill' || command === 'delete' ? args.slice(at).join(' ') : `${command} ${id}`,
    );
    this.stdio.push(options.stdio);
    if (command === 'update') this.inputs.push(Buffer.from(options.input ?? '').toString('utf8'));
    await this.hooks.get(command)?.();
    const ok = { code: 0, signal: undefined, timedOut: false, stdout: '' };
    const failure = this.failures.get(command);
    if (failure !== undefined) {
      this.failures.delete(command);
      appendFileSync(
        args[args.indexOf('--log') + 1] ?? '',
        `{"level":"error","msg":${JSON.stringify(failure)}}\n`,
      );
      return { ...ok, code: 1 };
    }
    const pidFile = args.indexOf('--pid-file');
    if (pidFile >= 0) writeFileSync(args[pidFile + 1] ?? '', String(this.nextPid++));
    if (command === 'ps') return { ...ok, stdout: JSON.stringify([this.nextPid - 1]) };
    return ok;
  }
}

/** The kernel's side of processes: they end when the test says so. */
export class FakeProcesses {
  readonly #waits = new Map<number, (exit: Exit) => void>();

  watch = (pid: number): Promise<Exit> =>
    new Promise((resolve) => {
      this.#waits.set(pid, resolve);
    });
  holding = <Result>(work: () => Promise<Result>): Promise<Result> => work();

  get watched(): number[] {
    return [...this.#waits.keys()];
  }

  end(pid: number, status: number, at = 1_000n): void {
    const wait = this.#waits.get(pid);
    if (!wait) throw new Error(`Nobody waits for ${pid}`);
    this.#waits.delete(pid);
    wait({ status, at });
  }
}

type StdioKernel = IoDeps['calls'];

/** Mounts and descriptors as counters; nothing may be left of either. */
export class FakeKernel implements MountCalls, StdioKernel, ExecFifoCalls {
  readonly mounted: { target: string; source: string }[] = [];
  readonly relays = new Map<number, (error: Error | null) => void>();
  #nextRelay = 1;
  mountFailure: string | undefined;
  readonly pipes: [number, number][] = [];
  readonly #makePipe: () => [number, number];

  constructor(makePipe: () => [number, number]) {
    this.#makePipe = makePipe;
  }

  mount(source: string, target: string): void {
    if (this.mountFailure) throw Object.assign(new Error(this.mountFailure), { code: this.mountFailure });
    this.mounted.push({ source, target });
  }
  mountOverlay(target: string): void {
    this.mounted.push({ source: 'overlay', target });
  }
  umount(target: string): void {
    const at = this.mounted.findLastIndex((mount) => mount.target === target);
    if (at < 0) throw Object.assign(new Error('not mounted'), { code: 'EINVAL' });
    this.mounted.splice(at, 1);
  }
  loopAttach(file: string): { device: string; fd: number } {
    return { device: file, fd: openSync('/dev/null', 'r') };
  }
  userNamespace(): number {
    return openSync('/dev/null', 'r');
  }
  mountMapped(source: string, target: string): void {
    this.mount(source, target);
  }
  pipe(): [number, number] {
    const pipe = this.#makePipe();
    this.pipes.push(pipe);
    return pipe;
  }
  fchown(): void {}
  relayStart(from: number, to: number, done: (error: Error | null) => void): number {
    this.relays.set(this.#nextRelay, (error) => {
      closeSync(from);
      closeSync(to);
      done(error);
    });
    return this.#nextRelay++;
  }
  /** Nobody waits in a fifo: what runs is started by runc. */
  fifoRead(path: string): number {
    throw Object.assign(new Error(path), { code: 'ENOENT' });
  }
  relayDrain(id: number): void {
    this.relayStop(id);
  }
  readonly windowSizes: [number, number][] = [];
  /** What comes through a console socket; an error if nothing does. */
  master: () => number = () => openSync('/dev/null', 'r+');
  consoleListen(): number {
    return openSync('/dev/null', 'r');
  }
  consoleReceive(listener: number, done: (error: Error | null, master?: number) => void): number {
    setImmediate(() => {
      closeSync(listener);
      try {
        done(null, this.master());
      } catch (error) {
        done(error as Error);
      }
    });
    return this.#nextRelay++;
  }
  consoleCancel(): void {}
  setWindowSize(_fd: number, columns: number, rows: number): void {
    this.windowSizes.push([columns, rows]);
  }
  duplicate(): number {
    return openSync('/dev/null', 'r+');
  }
  pidfdOpen(): number {
    return openSync('/dev/null', 'r');
  }
  pidfdSendSignal(): void {}
  relayStop(id: number): void {
    const done = this.relays.get(id);
    this.relays.delete(id);
    done?.(null);
  }
}

/** The kernel's control groups: none, or what the test puts in. */
export class FakeCgroups {
  readonly found: { pid: number; cgroupsPath: string | undefined }[] = [];
  next: ContainerCgroup | undefined;

  find = (pid: number, cgroupsPath: string | undefined): ContainerCgroup | undefined => {
    this.found.push({ pid, cgroupsPath });
    return this.next;
  };
}

export class FakeBus {
  readonly events: TaskEvent[] = [];
  publish = (event: TaskEvent): void => {
    this.events.push(event);
  };
  /** In short: "exit e 137". */
  get said(): string[] {
    return this.events.map((event) =>
      event.kind === 'exit' ? `exit ${event.id} ${event.status}` : event.kind,
    );
  }
}

export const silent = pino({ enabled: false });

export function writeBundle(directory: string, spec: object): void {
  writeFileSync(join(directory, 'config.json'), JSON.stringify(spec));
}
