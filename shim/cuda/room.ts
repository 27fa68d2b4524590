/** Whether the host's memory can take what is on the GPU: the driver puts it into the process, and so into its cgroup. */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { CudaError } from './error.ts';

export interface Limit {
  /** What sets it, in the user's words. */
  of: string;
  freeBytes: number;
}

const CGROUPS = '/sys/fs/cgroup';
/** The driver needs a little for itself, and the container goes on meanwhile. */
const SPARE_BYTES = 64 << 20;

export function availableMemory(meminfo: string): number | undefined {
  const kib = /^MemAvailable:\s*(\d+) kB$/m.exec(meminfo)?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}

/** The directories that limit the memory of a process, innermost first, by its /proc/PID/cgroup. */
export function memoryCgroups(cgroup: string): { version: 'v1' | 'v2'; dirs: string[] } {
  const v1 = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(\/.*)$/m.exec(cgroup)?.[1];
  const path = v1 ?? /^0::(\/.*)$/m.exec(cgroup)?.[1] ?? '/';
  const dirs: string[] = [];
  for (let at = path; at !== '/'; at = dirname(at))
    dirs.push(join(CGROUPS, v1 === undefined ? '' : 'memory', at));
  return { version: v1 === undefined ? 'v2' : 'v1', dirs };
}

/** Of a limit, its use, and what of the use the kernel can drop. Undefined without a limit. */
export function freeOf(limit: string, used: string, stat: string): number | undefined {
  const most = Number(limit.trim());
  if (!Number.isFinite(most) || limit.trim() === '') return undefined;
  const droppable = /^(?:total_)?inactive_file (\d+)$/m.exec(stat)?.[1] ?? '0';
  return most - Number(used.trim()) + Number(droppable);
}

export function refuseLack(bytes: number, limits: readonly Limit[]): void {
  const tight = limits.find(({ freeBytes }) => freeBytes < bytes + SPARE_BYTES);
  if (!tight) return;
  const mib = (value: number) => `${Math.ceil(value / 1048576)} MiB`;
  throw new CudaError(
    Code.resourceExhausted,
    `Cannot take ${mib(bytes)} off the GPU: ${tight.of} has room for ${mib(Math.max(0, tight.freeBytes))}; what is on the GPU goes to the memory of the container`,
  );
}

export async function memoryLimits(pid: number): Promise<Limit[]> {
  const read = (path: string) => readFile(path, 'utf8').catch(() => '');
  const limits: Limit[] = [];
  const available = availableMemory(await read('/proc/meminfo'));
  if (available !== undefined) limits.push({ of: 'this node', freeBytes: available });
  const { version, dirs } = memoryCgroups(await read(`/proc/${pid}/cgroup`));
  const [limit, use] =
    version === 'v2' ? ['memory.max', 'memory.current'] : ['memory.limit_in_bytes', 'memory.usage_in_bytes'];
  for (const dir of dirs) {
    const [most, used, stat] = await Promise.all(
      [limit, use, 'memory.stat'].map((name) => read(join(dir, name))),
    );
    const freeBytes = freeOf(most ?? '', used ?? '', stat ?? '');
    if (freeBytes !== undefined) limits.push({ of: `the memory limit of ${dir}`, freeBytes });
  }
  return limits;
}
