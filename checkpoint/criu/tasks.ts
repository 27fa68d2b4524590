/** The process tree of a dump. */
import { criu } from '../../proto/gen/criu-dump.js';
import { type Int64, toBigInt } from '../int64.ts';
import { decodeMessage, decodeOnly, optional } from './decode.ts';
import { broken, Magic, readMessages } from './framing.ts';

/** As far as pids go on Linux (PID_MAX_LIMIT). */
const MAX_PID = 4_194_304;

export interface DumpedTask {
  pid: number;
  ppid: number;
  /** Main thread first. */
  threads: readonly number[];
}

export interface DumpedCore {
  comm: string;
  isZombie: boolean;
  /** By RLIMIT_* number; empty if the image names none. */
  rlimits: readonly { current: bigint; max: bigint }[];
}

export interface DumpedVma {
  start: bigint;
  end: bigint;
  /** CRIU's VMA_* status bits. */
  status: number;
  /** PROT_* and MAP_* bits. */
  protection: number;
  flags: number;
  /** One bit for each MADV_* in force. */
  advice: bigint;
  /** Which shared memory it is of, and from which byte on. */
  shared: { id: bigint; offset: bigint };
}

/** CRIU's TASK_DEAD; a zombie has no memory. */
const TASK_DEAD = 2;
const TASK_ZOMBIE = 6;

export function readPstree(bytes: Uint8Array): DumpedTask[] {
  const name = 'pstree.img';
  const seen = new Set<number>();
  return readMessages(bytes, Magic.pstree, name).map((message) => {
    const { pid, ppid, threads } = decodeMessage(criu.dump.Task, message, name);
    for (const id of [pid, ...threads])
      if (id === 0 || id > MAX_PID) throw broken(name, `${id} cannot be a process id`);
    if (seen.has(pid)) throw broken(name, `process ${pid} is listed twice`);
    seen.add(pid);
    return { pid, ppid, threads };
  });
}

export function readCore(bytes: Uint8Array, name: string): DumpedCore {
  const core = decodeOnly(criu.dump.Core, readMessages(bytes, Magic.core, name), name);
  if (!core.tc) throw broken(name, 'it says nothing about its process');
  const { taskState, comm, rlimits } = core.tc;
  return {
    // Set by the process itself, and printed by us.
    comm: comm.slice(0, 64).replace(/[^\x20-\x7e]/g, '?'),
    isZombie: taskState === TASK_DEAD || taskState === TASK_ZOMBIE,
    rlimits: (rlimits?.rlimits ?? []).map(({ cur, max }) => ({
      current: toBigInt(cur as Int64),
      max: toBigInt(max as Int64),
    })),
  };
}

/** mm-<pid>.img. CRIU 4.2 lists guard regions besides the mappings that they lie in. */
export function readVmas(bytes: Uint8Array, name: string): DumpedVma[] {
  const mm = decodeOnly(criu.dump.Mm, readMessages(bytes, Magic.mm, name), name);
  return (mm.vmas ?? []).map((vma) => {
    const [start, end] = [toBigInt(vma.start as Int64), toBigInt(vma.end as Int64)];
    if (start >= end) throw broken(name, 'a mapping ends before it begins');
    const advice = toBigInt(optional(vma, 'madv') as Int64 | undefined);
    const shared = { id: toBigInt(vma.shmid as Int64), offset: toBigInt(vma.pgoff as Int64) };
    return { start, end, status: vma.status, protection: vma.prot, flags: vma.flags, advice, shared };
  });
}
