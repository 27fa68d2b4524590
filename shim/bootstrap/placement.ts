/** Where a server lives in the kernel's accounting: its OOM score and its cgroup. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AnyMessage } from '../task/options.ts';

const MAX_SCORE = 1000;

/**
 * One more than containerd's, so that the kernel ends shims first. Best effort: without CAP_SYS_RESOURCE a lower score than
 * the present one cannot be set.
 */
export function adjustOomScore(pid: number, daemonPid: number): void {
  try {
    const score = Number.parseInt(readFileSync(`/proc/${daemonPid}/oom_score_adj`, 'utf8'), 10);
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(Math.min(score + 1, MAX_SCORE)));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EACCES' && code !== 'EPERM' && code !== 'ENOENT') throw error;
  }
}

/** Puts the server into the cgroup that the options name: on v1 in every hierarchy, on v2 in the one there is. */
export async function joinCgroup(pid: number, options: AnyMessage): Promise<void> {
  const { decodeRuncOptions } = await import('../task/options.ts');
  const { shimCgroup } = await decodeRuncOptions(options, {
    readConfig: async (path) => readFileSync(path, 'utf8'),
    onUnknown: () => {},
  });
  if (!shimCgroup) return;
  for (const root of cgroupRoots(readFileSync('/proc/self/mounts', 'utf8')))
    writeFileSync(join(root, shimCgroup, 'cgroup.procs'), String(pid));
}

/** Mount points of the hierarchies that control something. */
export function cgroupRoots(mounts: string): string[] {
  const lines = mounts.split('\n').map((line) => line.split(' '));
  const v1 = lines.filter(([, , type]) => type === 'cgroup').flatMap(([, point]) => point ?? []);
  if (v1.length > 0) return v1;
  return lines.filter(([, , type]) => type === 'cgroup2').flatMap(([, point]) => point ?? []);
}
