/** Which memory of a container is in huge pages, so that a restore can put it there again. */
import { readFile } from 'node:fs/promises';
import type { DumpFacts } from '../../checkpoint/facts.ts';
import { innerPid, procTree, treeOf } from '../process/process-tree.ts';

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
