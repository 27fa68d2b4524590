/** Restores that restore nothing: a runc that starts another process, and steps around it that have nothing to do. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Runc } from '../runc/runc.ts';
import { grantsOf, noRights } from './no-rights.test-helper.ts';

export const nothingToDo = {
  namespaceFiles: { read: () => undefined, write: () => {} },
  checkImages: async () => {},
  fillShared: async () => undefined,
  telling: () => ({ before: () => {}, running: async () => {}, takeBack: () => {} }),
  imageRights: async () => noRights,
  grants: grantsOf,
  excessInProc: async () => [],
  cgroupDirs: async () => [],
  fillShm: async () => undefined,
  wrapperEdits: async () => undefined,
};

/** Leaves a file in the upper directory, and says in `done` where it finds that of a restore before. */
export class FakeRestore {
  readonly done: string[] = [];
  readonly runc: Runc;
  readonly #children: ChildProcess[] = [];

  constructor(upper: string) {
    const left = join(upper, 'left');
    const restore = async ({ pidFile }: { pidFile: string }) => {
      this.done.push(existsSync(left) ? 'restore on what was left' : 'restore');
      await writeFile(left, '');
      const child = spawn('sleep', ['60']);
      this.#children.push(child);
      await writeFile(pidFile, `${child.pid}`);
    };
    this.runc = { restore } as unknown as Runc;
  }

  /** A step that only says that it was there. */
  note(what: string): () => Promise<void> {
    return async () => void this.done.push(what);
  }

  end(): void {
    for (const child of this.#children) child.kill('SIGKILL');
  }
}
