/** What rights the tasks of a checkpoint would get from CRIU, out of the core images (one per thread). */
import { criu } from '../../proto/gen/criu-rights.js';
import { type Int64, toBigInt } from '../int64.ts';
import { decodeOnly, optional } from './decode.ts';
import { broken, Magic, readMessages } from './framing.ts';
import type { ImageDir } from './image-dir.ts';

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
  /** The last of its filters, by number in the image of all. */
  seccompFilter: number | undefined;
  /** SECBIT_* of linux/securebits.h. */
  securebits: number;
  /** Of AppArmor or SELinux; undefined if the task has none. */
  lsmLabel: string | undefined;
  /** What sockets that it makes are labelled with. */
  lsmSocketLabel: string | undefined;
  /** SCHED_* of linux/sched.h. */
  schedPolicy: number;
  nice: number;
}

/** What CRIU keeps once a process, in the image of its main thread. */
export interface ProcessRights {
  pid: number;
  /** By RLIMIT_* number; undefined where the image leaves them to another one. */
  rlimits: readonly Rlimit[] | undefined;
  oomScoreAdj: number | undefined;
  loginUid: number | undefined;
}

export interface Rlimit {
  soft: bigint;
  hard: bigint;
}

export interface CoreRights {
  /** Undefined for one that has ended, and that nobody has waited for: CRIU makes a process that ends likewise at once. */
  task: TaskRights | undefined;
  /** Undefined in the image of a thread that is not the main one. */
  process: ProcessRights | undefined;
}

/** As a dump by CRIU 4.2 has it. */
const ENDED = 2;
const CORE = /^core-(\d+)\.img$/;
/** Registers, sigactions and timers of one thread; AVX-512 and AMX state make the largest. */
const MAX_CORE_BYTES = 1 << 20;

export async function readCores(images: ImageDir, names: readonly string[]): Promise<CoreRights[]> {
  const rights: CoreRights[] = [];
  const cores = names.filter((name) => CORE.test(name));
  for await (const [name, bytes] of images.readAll(cores, MAX_CORE_BYTES))
    rights.push(rightsOfCore(Number(CORE.exec(name)?.[1]), bytes, name));
  if (rights.length === 0) throw broken('core', 'there is no image of any task');
  return rights;
}

export function rightsOfCore(pid: number, bytes: Uint8Array, name: string): CoreRights {
  const core = decodeOnly(criu.Core, readMessages(bytes, Magic.core, name), name);
  if (!core.threadCore && core.tc?.taskState === ENDED) return { task: undefined, process: undefined };
  const creds = core.threadCore?.creds;
  // Without them CRIU would take those of another image, or keep its own: root with everything.
  if (!creds) throw broken(name, 'it names no credentials');
  const { threadCore, tc } = core;
  // CRIU would prefer these, and they are the process's instead of the thread's.
  if (tc && (optional(tc, 'oldSeccompMode') ?? optional(tc, 'oldSeccompFilter')) !== undefined)
    throw broken(name, 'it names its seccomp filters as no CRIU of today does');
  const task: TaskRights = {
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
    seccompMode: threadCore?.seccompMode ?? 0,
    seccompFilter: threadCore ? optional(threadCore, 'seccompFilter') : undefined,
    securebits: creds.secbits,
    lsmLabel: optional(creds, 'lsmProfile'),
    lsmSocketLabel: optional(creds, 'lsmSockcreate'),
    schedPolicy: threadCore?.schedPolicy ?? 0,
    nice: threadCore?.schedNice ?? 0,
  };
  return { task, process: tc ? processRights(pid, tc) : undefined };
}

function processRights(pid: number, tc: criu.ITaskCore): ProcessRights {
  const limits = tc.rlimits?.rlimits?.map(({ cur, max }) => ({
    soft: limitOf(cur as Int64),
    hard: limitOf(max as Int64),
  }));
  return {
    pid,
    rlimits: limits && limits.length > 0 ? limits : undefined,
    oomScoreAdj: optional(tc, 'oomScoreAdj'),
    loginUid: optional(tc, 'loginuid'),
  };
}

/** What a number cannot hold exactly is far beyond what there is, and means no limit. */
function limitOf(value: Int64): bigint {
  const limit = toBigInt(value);
  return limit > BigInt(Number.MAX_SAFE_INTEGER) ? 2n ** 64n - 1n : limit;
}

function mask(words: readonly number[] | null | undefined): bigint {
  return (words ?? []).reduce((sum, word, i) => sum | (BigInt(word >>> 0) << BigInt(32 * i)), 0n);
}
