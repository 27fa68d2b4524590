/** All that the images of a checkpoint would give beyond what a container is granted, and what is fitted instead. Pure. */
import type { ProcessLimits } from '../../checkpoint/criu/fit-core.ts';
import type { ImageRights } from '../../checkpoint/criu/image-rights.ts';
import { FileType, type RestoredObjects } from '../../checkpoint/criu/restored-objects.ts';
import type { ProcessRights, Rlimit } from '../../checkpoint/criu/task-rights.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import { type Grants, hasCapability } from './grants.ts';
import { excessMounts } from './mount-rights.ts';
import { excessNamespaces } from './namespace-rights.ts';
import { excessOfProcess, excessRights } from './rights.ts';

/** In the user's words; empty if a restore gives no more than is granted. */
export function imageExcess(images: ImageRights, grants: Grants): string[] {
  const fitted = fittedLimits(images.processes, grants);
  return [
    ...images.tasks.flatMap((task) => excessRights(task, grants)),
    ...images.processes.flatMap((process) =>
      excessOfProcess({ ...process, ...fitted.get(process.pid) }, grants),
    ),
    ...excessNamespaces(images.namespaces, grants.spec),
    ...excessMounts(images.mounts, grants),
    ...excessObjects(images.objects, grants.spec),
  ];
}

/** File types that need a capability, which a process may have given up since. */
const FILES = [
  [FileType.packetSocket, 'a packet socket', ['NET_RAW']],
  [FileType.tun, 'a tun device', ['NET_ADMIN']],
  [FileType.fanotify, 'a fanotify group', ['SYS_ADMIN']],
  [FileType.bpfMap, 'a BPF map', ['BPF', 'SYS_ADMIN']],
] as const;
const STREAMS = 3;

function excessObjects(objects: RestoredObjects, spec: OciSpec): string[] {
  const { plugins, strayCgroups, deviceFiles, fileTypes, hasRawSockets, inheritedDescriptors } = objects;
  const may = (...names: string[]) => names.some((name) => hasCapability(spec, name));
  return [
    ...plugins.map((name) => `the checkpoint asks for CRIU's plug-in "${name}"`),
    ...strayCgroups.map((path) => `the checkpoint asks for the cgroup "${path}"`),
    ...(may('MKNOD') ? [] : deviceFiles.map((name) => `"${name}" makes a device, which the pod may not`)),
    ...FILES.filter(([type, , names]) => fileTypes.has(type) && !may(...names)).map(
      ([, what]) => `a process has ${what}, which the pod may not have`,
    ),
    ...(fileTypes.has(FileType.plugin) ? ['a process has a file that needs a plug-in of CRIU'] : []),
    ...(hasRawSockets && !may('NET_RAW') ? ['a process has a raw socket, which the pod may not have'] : []),
    ...(inheritedDescriptors > STREAMS
      ? [`the checkpoint asks for ${inheritedDescriptors} descriptors of runc; there are ${STREAMS} streams`]
      : []),
  ];
}

/**
 * Nodes differ in limits that no pod asks for (those of containerd's own process), and a kubelet computes oom_score_adj from
 * the node's memory: these are set to what the pod has here, rather than refused. By pid, for processes that need it.
 */
export function fittedLimits(
  processes: readonly ProcessRights[],
  grants: Grants,
): Map<number, ProcessLimits> {
  const root = processes.find(({ pid }) => pid === Math.min(...processes.map((process) => process.pid)));
  const isFree = hasCapability(grants.spec, 'SYS_RESOURCE');
  const fitted = new Map<number, ProcessLimits>();
  for (const { pid, rlimits, oomScoreAdj } of processes) {
    const score = fitScore(oomScoreAdj, root?.oomScoreAdj, grants.oomScoreAdj);
    const limits: ProcessLimits = {
      ...(score !== oomScoreAdj ? { oomScoreAdj: score } : {}),
      ...(isFree ? {} : fitRlimits(rlimits, grants)),
    };
    if (Object.keys(limits).length > 0) fitted.set(pid, limits);
  }
  return fitted;
}

/** What was as the container was started is as it is started now; a process may have raised its own. */
function fitScore(saved: number | undefined, ofRoot: number | undefined, granted: number): number {
  return saved === undefined || saved === ofRoot ? granted : Math.max(saved, granted);
}

function fitRlimits(saved: readonly Rlimit[] | undefined, { hardLimits }: Grants): ProcessLimits {
  if (!saved) return { rlimits: hardLimits.map((hard) => ({ soft: hard, hard })) };
  const limit = (value: bigint, at: number) => {
    const granted = hardLimits[at] ?? 0n;
    return value < granted ? value : granted;
  };
  const rlimits = saved.map(({ soft, hard }, at) => ({ soft: limit(soft, at), hard: limit(hard, at) }));
  const isSame = rlimits.every(({ hard, soft }, at) => hard === saved[at]?.hard && soft === saved[at]?.soft);
  return isSame ? {} : { rlimits };
}
