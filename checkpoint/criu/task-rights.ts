/** What rights the tasks of a checkpoint would get from CRIU, out of the core images (one per thread). */
import { criu } from '../../proto/gen/criu-restore.js';
import { optional } from './decode.ts';
import { broken, Magic, readMessages } from './framing.ts';
import { ImageDir } from './image-dir.ts';

export interface TaskRights {
  pid: number;
  /** Real, effective, saved, file-system. */
  uids: readonly number[];
  gids: readonly number[];
  groups: readonly number[];
  /** Bit masks as in /proc/PID/status. */
  capInheritable: bigint;
  capPermitted: bigint;
  capEffective: bigint;
  capBounding: bigint;
  capAmbient: bigint;
  noNewPrivileges: boolean;
  /** 0 none, 1 strict, 2 filter. */
  seccompMode: number;
}

const CORE = /^core-(\d+)\.img$/;
/** Registers, sigactions and timers of one thread; AVX-512 and AMX state make the largest. */
const MAX_CORE_BYTES = 1 << 20;

export async function readTaskRights(imagesDir: string): Promise<TaskRights[]> {
  const rights: TaskRights[] = [];
  await using images = await ImageDir.open(imagesDir);
  const cores = (await images.names()).filter((name) => CORE.test(name));
  for await (const [name, bytes] of images.readAll(cores, MAX_CORE_BYTES))
    rights.push(rightsOfCore(Number(CORE.exec(name)?.[1]), bytes, name));
  if (rights.length === 0) throw broken('core', 'there is no image of any task');
  return rights;
}

export function rightsOfCore(pid: number, bytes: Uint8Array, name: string): TaskRights {
  const [message, ...rest] = readMessages(bytes, Magic.core, name);
  if (!message || rest.length > 0) throw broken(name, 'it holds not exactly one entry');
  let core: criu.Core;
  try {
    core = criu.Core.decode(message);
  } catch (cause) {
    throw broken(name, 'its entry cannot be decoded', cause);
  }
  const creds = core.threadCore?.creds;
  // Without them CRIU would keep its own: root with everything.
  if (!creds) throw broken(name, 'it names no credentials');
  return {
    pid,
    uids: [creds.uid, creds.euid, creds.suid, creds.fsuid],
    gids: [creds.gid, creds.egid, creds.sgid, creds.fsgid],
    groups: creds.groups ?? [],
    capInheritable: mask(creds.capInh),
    capPermitted: mask(creds.capPrm),
    capEffective: mask(creds.capEff),
    capBounding: mask(creds.capBnd),
    capAmbient: mask(creds.capAmb),
    noNewPrivileges: (creds.noNewPrivs ?? 0) !== 0,
    seccompMode: seccompModeOf(core),
  };
}

/** Older CRIU noted it for the process; the threads of newer dumps have their own. */
function seccompModeOf({ threadCore, tc }: criu.Core): number {
  const own = threadCore ? optional(threadCore, 'seccompMode') : undefined;
  return own ?? tc?.oldSeccompMode ?? 0;
}

function mask(words: readonly number[] | null | undefined): bigint {
  return (words ?? []).reduce((sum, word, i) => sum | (BigInt(word >>> 0) << BigInt(32 * i)), 0n);
}
