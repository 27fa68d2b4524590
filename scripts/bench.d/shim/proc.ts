/** Processes of the test node as /proc shows them: who they are, what memory and descriptors they hold. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { Code } from '../../../proto/status.ts';
import { BenchError } from '../error.ts';

/** Bytes. Private is what would be free without the process; proportional shares what is shared among its users. */
export interface Memory {
  privateBytes: number;
  pss: number;
}

/** Adds up smaps_rollup; source: Documentation/filesystems/proc.rst. */
export function parseRollup(text: string): Memory {
  const bytes = (name: string) => {
    const found = new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1];
    if (found === undefined) throw new BenchError(Code.internal, `No ${name} in smaps_rollup`);
    return Number(found) * 1024;
  };
  return { privateBytes: bytes('Private_Clean') + bytes('Private_Dirty'), pss: bytes('Pss') };
}

/** Of all of them together; one that has ended meanwhile is an error. */
export function memoryOf(pids: readonly number[]): Memory {
  const sum = { privateBytes: 0, pss: 0 };
  for (const pid of pids) {
    const { privateBytes, pss } = parseRollup(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'));
    sum.privateBytes += privateBytes;
    sum.pss += pss;
  }
  return sum;
}

/** Open descriptors of all of them together. */
export function descriptorsOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + readdirSync(`/proc/${pid}/fd`).length, 0);
}

export interface Process {
  pid: number;
  parent: number;
}

/** Processes of the node's own PID namespace: not those in containers. */
export function nodeProcesses(): Process[] {
  const own = readlinkSync('/proc/self/ns/pid');
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        if (readlinkSync(`/proc/${name}/ns/pid`) !== own) return [];
        return [{ pid: Number(name), parent: parentOf(Number(name)) }];
      } catch {
        return []; // it has ended meanwhile
      }
    });
}

export function parentOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name before the last parenthesis may hold anything.
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}

/** A process and all that come from it. */
export function family(root: number, processes: readonly Process[]): number[] {
  const found = [root];
  // Grows while it is walked.
  for (const pid of found)
    found.push(...processes.filter(({ parent }) => parent === pid).map((child) => child.pid));
  return found;
}
