/**
 * The private images directory of one restore: links into the node cache, but for the images that must say something
 * else here.
 */
import { mkdir, readdir, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { readUtsns, writeUtsns } from '../../checkpoint/criu/utsns.ts';
import { DUMP_FACTS_FILE } from '../../checkpoint/facts.ts';
import { SHM_DATA_FILE, SHM_LIST_FILE } from '../../checkpoint/shm.ts';
import { Code } from '../../proto/status.ts';
import { RestoreError } from './error.ts';

export interface PodNames {
  hostname: string | undefined;
  domainname: string | undefined;
}

/** What CRIU has no use for. */
const NO_IMAGES = new Set([DUMP_FACTS_FILE, SHM_DATA_FILE, SHM_LIST_FILE]);

/** A UTS image holds two names of at most 64 bytes. */
const MAX_UTSNS_BYTES = 4096;

/** Makes `target`, replacing what an earlier attempt left there. `changed`: images to write, in place of the saved ones if there are. */
export async function makeImagesDir(
  source: string,
  target: string,
  names: PodNames,
  changed: ReadonlyMap<string, Uint8Array> = new Map(),
): Promise<void> {
  await rm(target, { recursive: true, force: true });
  await mkdir(target, { mode: 0o700 });
  // CRIU opens images below its directory's descriptor after it has entered the container's root: an absolute link
  // would lead into the container, a relative one stays in the tree of the descriptor.
  const away = relative(await realpath(target), await realpath(source));
  const saved = (await readdir(source)).filter((name) => !NO_IMAGES.has(name));
  const files = new Set([...saved, ...changed.keys()]);
  const make = async (name: string) => {
    const from = join(source, name);
    const to = join(target, name);
    const bytes = changed.get(name);
    if (bytes) {
      await writeFile(to, bytes, { mode: 0o600 });
    } else if (/^utsns-\d+\.img$/.test(name) && names.hostname !== undefined) {
      await writeFile(to, await withPodNames(from, names), { mode: 0o600 });
    } else {
      await symlink(join(away, name), to);
    }
  };
  // All have ended before anybody removes the directory.
  const made = await Promise.allSettled(Array.from(files, make));
  for (const result of made) if (result.status === 'rejected') throw result.reason;
}

async function withPodNames(file: string, { hostname, domainname }: PodNames): Promise<Uint8Array> {
  const { size } = await stat(file);
  if (size > MAX_UTSNS_BYTES) {
    throw new RestoreError(Code.dataLoss, `The host name image of the checkpoint has ${size} bytes`, {
      context: { file },
    });
  }
  const saved = readUtsns(await readFile(file));
  return writeUtsns({ nodename: hostname ?? saved.nodename, domainname: domainname ?? saved.domainname });
}
