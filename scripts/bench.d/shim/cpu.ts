/** Processor time of the whole test node but this process: containerd, shims, runc and containers. */
import { existsSync, readFileSync } from 'node:fs';

const v1 = '/sys/fs/cgroup/cpuacct/cpuacct.usage';
const v2 = '/sys/fs/cgroup/cpu.stat';

/** Milliseconds since some moment. The node's own cgroup is the root that it sees, also with other load beside it. */
export function nodeCpu(): number {
  const { user, system } = process.cpuUsage();
  return total() - (user + system) / 1000;
}

function total(): number {
  if (existsSync(v1)) return Number(readFileSync(v1, 'utf8')) / 1e6;
  return parseCpuStat(readFileSync(v2, 'utf8'));
}

/** `usage_usec` of a cgroup's cpu.stat, in milliseconds. */
export function parseCpuStat(text: string): number {
  return Number(/^usage_usec (\d+)$/m.exec(text)?.[1] ?? Number.NaN) / 1000;
}
