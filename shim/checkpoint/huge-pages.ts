/** Which memory of a container is in huge pages, so that a restore can put it there again. */
import { readFile } from 'node:fs/promises';
import type { DumpFacts } from '../../checkpoint/facts.ts';
import { type ProcessTreeDeps, procTree } from '../restore/process-tree.ts';

type HugeMemory = NonNullable<DumpFacts['hugePages']>[number];

/** More than this is not worth a line in checkpoint.json. */
const MOST_RANGES = 4096;

/** Mappings with anonymous huge pages, as in /proc/PID/smaps: addresses in hexadecimal. */
export function hugeRanges(smaps: string): [string, string][] {
  const ranges: [string, string][] = [];
  let mapping: [string, string] | undefined;
  for (const line of smaps.split('\n')) {
    const begins = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (begins) mapping = [begins[1] as string, begins[2] as string];
    else if (mapping && /^AnonHugePages: +[1-9]/.test(line)) ranges.push(mapping);
  }
  return ranges.slice(0, MOST_RANGES);
}

/** The pid that a process has in its own, innermost PID namespace; undefined if it is gone. */
export async function innerPid(pid: number): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const last = /^NSpid:\t(?:\d+\t)*(\d+)$/m.exec(status)?.[1];
  return last === undefined ? undefined : Number(last);
}

/** A process and all its descendants. */
export async function treeOf(root: number, deps: Pick<ProcessTreeDeps, 'childrenOf'>): Promise<number[]> {
  const children = await deps.childrenOf(root);
  const below = await Promise.all(children.map((child) => treeOf(child, deps)));
  return [root, ...below.flat()];
}

export async function hugePagesOf(init: number): Promise<HugeMemory[]> {
  const found = await Promise.all(
    (await treeOf(init, procTree)).map(async (pid): Promise<HugeMemory[]> => {
      const smaps = await readFile(`/proc/${pid}/smaps`, 'utf8').catch(() => '');
      const ranges = hugeRanges(smaps);
      const inner = ranges.length > 0 ? await innerPid(pid) : undefined;
      return inner === undefined ? [] : [{ pid: inner, ranges }];
    }),
  );
  return found.flat();
}
