/** What all sections share: the pack, runc, the program that talks to the driver, and what the shim's code logs. */
import { join } from 'node:path';
import { native } from '../../native/index.ts';
import { describeError } from '../../proto/status.ts';
import { cudaHelper } from '../../shim/cuda/index.ts';
import type { Log } from '../../shim/log.ts';
import { ChildSpawner } from '../../shim/process/spawn.ts';
import { Runc } from '../../shim/runc/runc.ts';

/** In memory: no disk is measured. */
export const WORK = '/dev/shm/gpu-test';
export const IMAGES = join(WORK, 'images');

type Fields = Record<string, number | boolean | string>;

export class Machine {
  /** The unpacked pack. */
  readonly pack: string;
  readonly runc: Runc;
  readonly cuda: { program: string; libcuda: string; nvml: string };
  readonly helper: ReturnType<typeof cudaHelper>;
  readonly log: Log;
  readonly #heard: { message: string; fields: Fields }[] = [];

  constructor(pack: string, env: Readonly<Record<string, string>>) {
    this.pack = pack;
    this.cuda = { program: join(pack, 'bin/thaw-cuda'), libcuda: '', nvml: '' };
    this.runc = new Runc(
      {
        binary: join(pack, 'runc/runc'),
        root: join(WORK, 'runc'),
        systemdCgroup: false,
        env: { ...env, PATH: `${pack}/criu:${env['PATH']}`, LD_LIBRARY_PATH: `${pack}/runc` },
      },
      new ChildSpawner(native),
    );
    this.helper = cudaHelper(this.cuda, this.runc);
    const hear = (fields: unknown, message?: unknown) => {
      this.#heard.push({ message: String(message), fields: fields as Fields });
      process.stdout.write(`  ${String(message)} ${JSON.stringify(fields)}\n`);
    };
    const log = { debug: () => {}, info: hear, warn: hear, error: hear, child: () => log } as unknown as Log;
    this.log = log;
  }

  get guardProgram(): string {
    return join(this.pack, 'bin/containerd-shim-thaw-v2');
  }

  /** A field of the last such line of the shim's log. */
  said(message: string, name: string): number | boolean | string | undefined {
    return this.#heard.findLast((line) => line.message === message)?.fields[name];
  }

  number(message: string, name: string): number {
    const value = this.said(message, name);
    return typeof value === 'number' ? value : Number.NaN;
  }
}

/** GB/s */
export const rate = (bytes: number, ms: number) => Math.round(bytes / ms / 1e4) / 100;
export const failure = (error: unknown) => describeError(error).message;

export async function expectFailure(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return failure(error);
  }
  throw new Error('what should fail did not');
}
