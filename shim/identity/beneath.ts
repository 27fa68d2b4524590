/**
 * Files in directories that a container may have filled: each name is opened beneath the one before and no link is
 * followed, so that nothing outside is read, written or removed. Synchronous: they are small, and local.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import type { Addon } from '../../native/index.ts';
import type { Place } from './place.ts';
import { randomHex } from './random.ts';

export type BeneathCalls = Pick<Addon, 'openBeneath'>;

export interface FileRights {
  mode: number;
  uid: number;
  gid: number;
}

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;
const MAX_BYTES = 4 << 20;

/** Undefined where there is no such regular file. */
export function readBeneath({ root, path }: Place, calls: BeneathCalls): Buffer | undefined {
  let fd: number;
  try {
    // A fifo in its place must not be waited for.
    fd = calls.openBeneath(root, path, O_RDONLY | O_NONBLOCK, 0);
  } catch (error) {
    if (isNothing(error)) return undefined;
    throw error;
  }
  try {
    const info = fstatSync(fd);
    return info.isFile() && info.size <= MAX_BYTES ? readFileSync(fd) : undefined;
  } finally {
    closeSync(fd);
  }
}

/** In one step for whoever reads it. `makeParents`: directories that are not there are made, for everybody to read. */
export function writeBeneath(
  place: Place,
  content: string | Uint8Array,
  { mode, uid, gid }: FileRights,
  makeParents: boolean,
  calls: BeneathCalls,
): void {
  inParent(place, makeParents, calls, (parent, name) => {
    const fresh = `.${name}.${randomHex(8)}`;
    const fd = calls.openBeneath(parent, fresh, O_WRONLY | O_CREAT | O_EXCL, 0o600);
    try {
      writeFileSync(fd, content);
      fchownSync(fd, uid, gid);
      fchmodSync(fd, mode);
      renameSync(`${parent}/${fresh}`, `${parent}/${name}`);
    } catch (error) {
      rmSync(`${parent}/${fresh}`, { force: true });
      throw error;
    } finally {
      closeSync(fd);
    }
  });
}

/** Whether there was one. */
export function removeBeneath(place: Place, calls: BeneathCalls): boolean {
  try {
    inParent(place, false, calls, (parent, name) => rmSync(`${parent}/${name}`));
    return true;
  } catch (error) {
    if (isNothing(error)) return false;
    throw error;
  }
}

/** `parent` is a path that leads to the open directory itself, whatever is renamed meanwhile. */
function inParent(
  { root, path }: Place,
  make: boolean,
  calls: BeneathCalls,
  work: (parent: string, name: string) => void,
): void {
  const names = path.split('/').filter((name) => name !== '');
  const last = names.pop() ?? '';
  let fd = calls.openBeneath(root, '.', O_RDONLY | O_DIRECTORY, 0);
  try {
    for (const name of names) {
      const above = fd;
      fd = openDirectory(`/proc/self/fd/${above}`, name, make, calls);
      closeSync(above);
    }
    work(`/proc/self/fd/${fd}`, last);
  } finally {
    closeSync(fd);
  }
}

function openDirectory(parent: string, name: string, make: boolean, calls: BeneathCalls): number {
  const open = () => calls.openBeneath(parent, name, O_RDONLY | O_DIRECTORY, 0);
  try {
    return open();
  } catch (error) {
    if (!make || !isNothing(error)) throw error;
  }
  mkdirSync(`${parent}/${name}`, { mode: 0o755 });
  return open();
}

function isNothing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}
