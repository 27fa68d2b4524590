/** What a container is granted: by its live OCI spec, and by this shim where the spec says nothing. Pure but for `readGrants`. */
import { readlinkSync } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { readLabel } from '../lsm.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import { capabilityMask } from './capabilities.ts';

export interface Grants {
  spec: OciSpec;
  /** Hard limits by RLIMIT_* number. */
  hardLimits: readonly bigint[];
  oomScoreAdj: number;
  loginUid: number;
  nice: number;
  /** Of AppArmor or SELinux, where the spec names none; undefined if there is none. */
  ownLabel: string | undefined;
  /** Masked and read-only paths that the kernel of this node has. */
  hiddenPaths: ReadonlySet<string>;
  /** Where a path of the container leads, links followed inside its root file system, as runc does it. */
  resolve(path: string): string;
}

export const UNLIMITED = 2n ** 64n - 1n;

/** By number. Source: asm-generic/resource.h; the same order as in /proc/PID/limits. */
const RLIMITS = [
  'CPU',
  'FSIZE',
  'DATA',
  'STACK',
  'CORE',
  'RSS',
  'NPROC',
  'NOFILE',
  'MEMLOCK',
  'AS',
  'LOCKS',
  'SIGPENDING',
  'MSGQUEUE',
  'NICE',
  'RTPRIO',
  'RTTIME',
] as const;

export function rlimitName(number: number): string {
  return `RLIMIT_${RLIMITS[number] ?? number}`;
}

export function hasCapability({ process }: OciSpec, name: string): boolean {
  return (capabilityMask(process?.capabilities?.bounding) & capabilityMask([name])) !== 0n;
}

/** Of our own process: runc and what it makes inherit them. */
export async function readGrants(spec: OciSpec, rootfs: string): Promise<Grants> {
  const read = (name: string) => readFile(`/proc/self/${name}`, 'utf8');
  const { maskedPaths = [], readonlyPaths = [] } = spec.linux ?? {};
  const [limits, score, label, loginUid, ...hidden] = await Promise.all([
    read('limits'),
    read('oom_score_adj'),
    // An error where no such module is loaded.
    read('attr/current').catch(() => ''),
    // Not there without auditing in the kernel.
    read('loginuid').catch(() => '4294967295'),
    ...[...maskedPaths, ...readonlyPaths].map((path) =>
      access(isOfKernel(path, spec) ? path : join(rootfs, path)).then(
        () => [path],
        () => [],
      ),
    ),
  ]);
  return {
    spec,
    hardLimits: hardLimits(spec, limits),
    oomScoreAdj: spec.process?.oomScoreAdj ?? Number(score),
    loginUid: Number(loginUid),
    nice: getPriority(),
    ownLabel: readLabel(label),
    hiddenPaths: new Set(hidden.flat()),
    resolve: (path) => resolveBeneath(rootfs, path),
  };
}

/** The same in every container that mounts it. */
function isOfKernel(path: string, { mounts = [] }: OciSpec): boolean {
  return mounts.some(
    ({ type, destination }) => (type === 'proc' || type === 'sysfs') && path.startsWith(`${destination}/`),
  );
}

/** `limits`: content of /proc/PID/limits. */
export function hardLimits({ process }: OciSpec, limits: string): bigint[] {
  const hard = hardLimitsOf(limits);
  for (const { type, hard: granted } of process?.rlimits ?? []) {
    const at = (RLIMITS as readonly string[]).indexOf(type.replace(/^RLIMIT_/, ''));
    // A limit of the spec beyond 2^53 has lost its last digits, and means none.
    if (at >= 0) hard[at] = granted > Number.MAX_SAFE_INTEGER ? UNLIMITED : BigInt(granted);
  }
  return hard;
}

/** Source: proc_pid_limits(5). */
export function hardLimitsOf(limits: string): bigint[] {
  return limits
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => {
      const [, hard = 'unlimited'] = line.slice(26).trim().split(/\s+/);
      return hard === 'unlimited' ? UNLIMITED : BigInt(hard);
    });
}

const MOST_LINKS = 40;

function resolveBeneath(root: string, path: string): string {
  let done = '';
  const left = path.split('/').filter(Boolean);
  for (let links = 0; left.length > 0; ) {
    const part = left.shift() ?? '';
    if (part === '.') continue;
    if (part === '..') {
      done = done.replace(/\/[^/]*$/, '');
      continue;
    }
    const target = linkTarget(join(root, done, part));
    if (target === undefined) done = `${done}/${part}`;
    else {
      if (++links > MOST_LINKS) return path;
      if (target.startsWith('/')) done = '';
      left.unshift(...target.split('/').filter(Boolean));
    }
  }
  return done || '/';
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
