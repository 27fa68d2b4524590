/**
 * Changes of folders for many who ask at once, handed to a worker together: a call that changes a file system waits for its
 * journal while others are flushed, and the event loop must not; and a hand-over costs as much as such a call.
 */
import { getSystemErrorName } from 'node:util';
import type { Addon } from '../../native/index.ts';

export type FileCall =
  | { call: 'mkdir' | 'chmod'; path: string; mode: number }
  | { call: 'chown'; path: string; uid: number; gid: number }
  | { call: 'rename'; path: string; to: string }
  /** Of what may not be there. */
  | { call: 'rmdir'; path: string };

/** As the addon numbers them. */
const NUMBERS = { mkdir: 0, chmod: 1, chown: 2, rename: 3, rmdir: 4 } as const;
/** Whoever is handed over with others waits for all of them. */
const TOGETHER = 16;

interface Waiting {
  calls: readonly FileCall[];
  resolve: () => void;
  reject: (error: unknown) => void;
}

export class FileCalls {
  readonly #run: Addon['fileCalls'];
  readonly #waiting: Waiting[] = [];
  #running = false;

  constructor(run: Addon['fileCalls']) {
    this.#run = run;
  }

  /** One after the other up to the first that fails, whose error is like Node's own. */
  do(calls: readonly FileCall[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ calls, resolve, reject });
      if (this.#running) return;
      this.#running = true;
      // Whoever asks in this turn of the event loop comes along.
      setImmediate(() => void this.#go());
    });
  }

  async #go(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, TOGETHER);
      try {
        const failed = await this.#failures(batch.map(({ calls }) => calls));
        for (const [i, { resolve, reject }] of batch.entries()) {
          const error = failed.get(i);
          if (error) reject(error);
          else resolve();
        }
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#running = false;
  }

  /** By the number of the group. */
  async #failures(groups: readonly (readonly FileCall[])[]): Promise<Map<number, Error>> {
    const paths: string[] = [];
    const numbers: bigint[] = [];
    const made: { group: number; call: string; path: string }[] = [];
    const add = (group: number, call: keyof typeof NUMBERS, path: string, value: bigint) => {
      made.push({ group, call, path });
      numbers.push(BigInt(group), BigInt(NUMBERS[call]), BigInt(paths.push(path) - 1), value);
    };
    for (const [group, calls] of groups.entries()) {
      for (const call of calls) {
        switch (call.call) {
          case 'mkdir':
          case 'chmod':
            add(group, call.call, call.path, BigInt(call.mode));
            break;
          case 'chown':
            add(group, 'chown', call.path, BigInt(call.uid) | (BigInt(call.gid) << 32n));
            break;
          case 'rename':
            add(group, 'rename', call.path, BigInt(paths.push(call.to) - 1));
            break;
          case 'rmdir':
            add(group, 'rmdir', call.path, 0n);
            break;
        }
      }
    }
    const failed = new Map<number, Error>();
    const answer = await this.#run(paths, BigUint64Array.from(numbers));
    for (let i = 0; i < answer.length; i += 2) {
      const failure = made[answer[i] ?? -1];
      if (failure) failed.set(failure.group, errorOf(failure, answer[i + 1] ?? 0));
    }
    return failed;
  }
}

function errorOf({ call, path }: { call: string; path: string }, errno: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${code}: ${call} '${path}'`), { code, errno, syscall: call, path });
}
