/** Facts about this node that decide whether a checkpoint can run here; saved with a checkpoint, compared at a restore. */
import { readFile } from 'node:fs/promises';
import { arch, release } from 'node:os';
import type { DumpFacts } from './facts.ts';

export type HostFacts = DumpFacts['host'];
export type MountFacts = DumpFacts['mounts'][number];

/** Flags of /proc/cpuinfo that are instruction sets a program may have chosen its code by. */
const INSTRUCTION_SET =
  /^(sse|ssse|avx|amx|bmi|fma|f16c|aes|vaes|pclmul|vpclmul|sha|popcnt|abm|lzcnt|adx|movbe|rdrand|rdseed|gfni|xsave|fsgsbase|rdpid|movdir|clwb|clflushopt|erms|fsrm|asimd|neon|sve|sme|crc32|atomics|bf16|i8mm|dotprod|lse|bti|pauth|paca|pacg)/;

export function instructionSets(cpuinfo: string): string[] {
  const line = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuinfo);
  const flags = (line?.[1] ?? '').split(/\s+/).filter((flag) => INSTRUCTION_SET.test(flag));
  return [...new Set(flags)].sort();
}

const GO_ARCH: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

export interface Versions {
  criu: string;
  runc: string;
}

export async function hostFacts(versions: Versions): Promise<HostFacts> {
  const [cpuinfo, mounts] = await Promise.all([
    readFile('/proc/cpuinfo', 'utf8'),
    readFile('/proc/self/mounts', 'utf8'),
  ]);
  return {
    arch: GO_ARCH[arch()] ?? arch(),
    kernel: release(),
    cpuFlags: instructionSets(cpuinfo),
    criu: versions.criu,
    runc: versions.runc,
    cgroup: cgroupVersion(mounts),
  };
}

/** v2 only where the unified hierarchy is the one at /sys/fs/cgroup; a hybrid set-up puts controllers on v1. */
export function cgroupVersion(mounts: string): 'v1' | 'v2' {
  return /^\S+ \/sys\/fs\/cgroup cgroup2 /m.test(mounts) ? 'v2' : 'v1';
}

/** Of an OCI runtime spec. */
interface Mount {
  destination: string;
  type?: string;
  source?: string;
  options?: string[];
}

export function mountFacts({ mounts = [] }: { mounts?: Mount[] }): MountFacts[] {
  return mounts.map((mount) => ({
    destination: mount.destination,
    type: mountType(mount),
    readOnly: (mount.options ?? []).includes('ro'),
  }));
}

function mountType(mount: Mount): string {
  const options = mount.options ?? [];
  return options.includes('bind') || options.includes('rbind') ? 'bind' : (mount.type ?? 'bind');
}
