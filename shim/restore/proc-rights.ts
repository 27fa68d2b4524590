/** Rights of restored processes as the kernel has them, held once more against what the pod grants. */
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import type { ProcessRights, Rlimit } from '../../checkpoint/criu/task-rights.ts';
import { labelOf, readLabel } from '../lsm.ts';
import { procTree, treeOf } from '../process/process-tree.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import { type Grants, hardLimitsOf } from './grants.ts';
import { excessOfProcess, excessOfRunning, rightsFromStatus } from './rights.ts';

/** By type of an OCI spec. */
const NS_FILES: Readonly<Record<string, string>> = {
  network: 'net',
  mount: 'mnt',
  pid: 'pid',
  ipc: 'ipc',
  uts: 'uts',
};

/** Of `root` and all its descendants, threads included. Rejects if there is no such process. */
export async function excessInProc(root: number, grants: Grants): Promise<string[]> {
  const status = await readFile(`/proc/${root}/status`, 'utf8');
  const own = excessOfRunning(rightsFromStatus(root, status), taskGrants(grants));
  const pids = await treeOf(root, procTree);
  const found = await Promise.all([
    ...pids.map((pid) => excessOfOne(pid, grants)),
    ...pids.map((pid) => excessOfThreads(pid, grants)),
    excessOfNamespaces(pids, grants.spec),
  ]);
  return [...new Set([...own, ...found.flat()])];
}

/** A status says nothing of labels, which are looked at apart. */
function taskGrants({ spec, nice }: Grants): Parameters<typeof excessOfRunning>[1] {
  const { apparmorProfile: _, selinuxLabel: __, ...process } = spec.process ?? {};
  return { spec: { ...spec, process }, nice, ownLabel: undefined };
}

async function excessOfThreads(pid: number, grants: Grants): Promise<string[]> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const statuses = await Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/status`, 'utf8').catch(() => undefined)),
  );
  return statuses.flatMap((status, i) =>
    status === undefined || hasEnded(status)
      ? []
      : excessOfRunning(rightsFromStatus(Number(threads[i]), status), taskGrants(grants)),
  );
}

/** It runs nothing any more, whatever it may. */
function hasEnded(status: string): boolean {
  return /^State:\s*[ZX]/m.test(status);
}

/** Nothing of a process that has ended meanwhile. */
async function excessOfOne(pid: number, grants: Grants): Promise<string[]> {
  const read = (name: string) => readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => undefined);
  const [status, limits, score, current] = await Promise.all([
    read('status'),
    read('limits'),
    read('oom_score_adj'),
    read('attr/current'),
  ]);
  if (status === undefined || limits === undefined || score === undefined || hasEnded(status)) return [];
  const rlimits: Rlimit[] = hardLimitsOf(limits).map((hard) => ({ soft: hard, hard }));
  const process: ProcessRights = { pid, rlimits, oomScoreAdj: Number(score), loginUid: undefined };
  const granted = labelOf(grants.spec)?.label ?? grants.ownLabel;
  const label = readLabel(current ?? '');
  // It may have ended between the two.
  const isGone = limits === '';
  return [
    ...(isGone ? [] : excessOfProcess(process, grants)),
    ...(label === granted || isGone
      ? []
      : [`process ${pid} has the label ${label ?? 'unconfined'}, the pod ${granted ?? 'none'}`]),
  ];
}

async function excessOfNamespaces(pids: readonly number[], spec: OciSpec): Promise<string[]> {
  const named = (spec.linux?.namespaces ?? []).filter(({ type }) => NS_FILES[type] !== undefined);
  const excess = await Promise.all(
    named.map(async ({ type, path }) => {
      const file = NS_FILES[type] ?? type;
      const outside = await readlink(`/proc/self/ns/${file}`);
      const granted = path ? `${file}:[${(await stat(path)).ino}]` : undefined;
      const links = await Promise.all(
        pids.map((pid) => readlink(`/proc/${pid}/ns/${file}`).catch(() => undefined)),
      );
      const first = links[0];
      return links.flatMap((link, i) =>
        link === undefined || (link === (granted ?? first) && (granted !== undefined || link !== outside))
          ? []
          : [`process ${pids[i]} is in another ${type} namespace than the pod's`],
      );
    }),
  );
  return excess.flat();
}
