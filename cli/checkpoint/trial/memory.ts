import { readFile } from 'node:fs/promises';
import { formatBytes } from '../../ui/format.ts';

/** Why the node has no room for another one of the container; undefined if it has. `needed` in bytes. */
export async function memoryObstacle(needed: bigint): Promise<string | undefined> {
  const free = availableBytes(await readFile('/proc/meminfo', 'utf8'));
  if (free >= needed) return undefined;
  return `this node has ${formatBytes(free)} of memory free, and the container takes ${formatBytes(needed)}`;
}

/** Source: proc(5), meminfo. */
export function availableBytes(meminfo: string): bigint {
  return BigInt(/^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1] ?? '0') << 10n;
}
