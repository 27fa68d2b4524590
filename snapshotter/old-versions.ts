/**
 * A version of thaw that was replaced goes when the last process that runs from it has ended: a shim loads code from its own
 * folder as long as its pod lives. `thaw install` marks such folders (cli/install/versions.ts).
 */
import { access, open, readdir, readlink, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CURRENT, INSTALL_LOCK, RETIRED } from '../node-state/install-names.ts';

const EVERY_MS = 60_000;

export interface OldVersionsDeps {
  /** flock(2), not waiting. */
  tryLock(fd: number, exclusive: boolean): boolean;
  onRemoved(version: string): void;
  onFailed(error: unknown): void;
  everyMs?: number;
  proc?: string;
}

/** Looks now and each minute. The function that it answers stops that, and waits for what is under way. */
export function watchOldVersions(tree: string, deps: OldVersionsDeps): () => Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let isStopped = false;
  let look = Promise.resolve();
  const again = () => {
    look = removeOldVersions(tree, deps).catch(deps.onFailed);
    void look.then(() => {
      if (!isStopped) timer = setTimeout(again, deps.everyMs ?? EVERY_MS).unref();
    });
  };
  again();
  return async () => {
    isStopped = true;
    clearTimeout(timer);
    await look;
  };
}

/** `tree` is the folder of the version that runs. */
export async function removeOldVersions(
  tree: string,
  { tryLock, onRemoved, proc = '/proc' }: OldVersionsDeps,
): Promise<void> {
  const prefix = dirname(tree);
  const retired: string[] = [];
  for (const entry of await readdir(prefix, { withFileTypes: true }))
    if (entry.isDirectory() && (await isThere(join(prefix, entry.name, RETIRED)))) retired.push(entry.name);
  if (retired.length === 0) return;
  // Not while an installation may bring one back.
  const lock = await open(join(prefix, INSTALL_LOCK), 'a', 0o600);
  try {
    if (!tryLock(lock.fd, true)) return;
    const current = await readlink(join(prefix, CURRENT)).catch(() => undefined);
    const used = await programs(proc);
    for (const version of retired) {
      const folder = join(prefix, version);
      if (version === current || used.some((program) => program.startsWith(`${folder}/`))) continue;
      if (!(await isThere(join(folder, RETIRED)))) continue;
      // In one step for whoever looks, and again after a crash.
      const gone = join(prefix, `.${version}.old`);
      await rm(gone, { recursive: true, force: true });
      await rename(folder, gone);
      await rm(gone, { recursive: true, force: true });
      onRemoved(version);
    }
  } finally {
    await lock.close();
  }
}

async function programs(proc: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(proc)) {
    if (!/^\d+$/.test(entry)) continue;
    // Kernel threads have none, and a process may end meanwhile.
    const program = await readlink(join(proc, entry, 'exe')).catch(() => undefined);
    if (program !== undefined) found.push(program);
  }
  return found;
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
