/**
 * Rights come from the pod, never from a checkpoint. CRIU runs as root and gives every task the ids, capabilities and
 * flags of its image; here they are held against what the live OCI spec grants, before CRIU runs and again in /proc
 * after it. Each excess is a sentence; none is empty.
 */
import type { ProcessRights, TaskRights } from '../../checkpoint/criu/task-rights.ts';
import { labelOf } from '../lsm.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import { capabilityMask, capabilityNames } from './capabilities.ts';
import { type Grants, hasCapability, rlimitName, UNLIMITED } from './grants.ts';

/** SCHED_FIFO, SCHED_RR, SCHED_DEADLINE. */
const REAL_TIME = new Set([1, 2, 6]);
/** The audit system has not seen a login. */
const NO_LOGIN = 0xffff_ffff;

type TaskGrants = Pick<Grants, 'spec' | 'nice' | 'ownLabel'>;

/** What a thread has beyond what the pod grants. */
export function excessRights(task: TaskRights, grants: TaskGrants): string[] {
  const { spec } = grants;
  const who = `process ${task.pid}`;
  return [...excessCapabilities(task, spec), ...excessIds(task, spec), ...excessFlags(task, grants)].map(
    (what) => `${who} ${what}`,
  );
}

/** The same of one that runs; in images every task is given the pod's filter. */
export function excessOfRunning(task: TaskRights, grants: TaskGrants): string[] {
  const isBare = grants.spec.linux?.seccomp && task.seccompMode === 0;
  return [
    ...excessRights(task, grants),
    ...(isBare ? [`process ${task.pid} runs without the pod's seccomp profile`] : []),
  ];
}

function excessCapabilities(task: TaskRights, spec: OciSpec): string[] {
  const { capabilities: granted = {}, noNewPrivileges, user } = spec.process ?? {};
  const bounding = capabilityMask(granted.bounding);
  const ambient = capabilityMask(granted.ambient);
  // Whoever does not start as root has no more than the ambient set, and cannot get more without an exec that may give it.
  const permitted = (user?.uid ?? 0) !== 0 && noNewPrivileges ? ambient : bounding;
  const beyond = (set: string, mask: bigint, limit: bigint) => {
    const more = capabilityNames(mask & ~limit);
    return more.length > 0 ? [`has ${more.join(', ')} in its ${set} set, which the pod does not grant`] : [];
  };
  return [
    ...beyond('bounding', task.capBounding, bounding),
    ...beyond('permitted', task.capPermitted, permitted),
    ...beyond('effective', task.capEffective, permitted),
    ...beyond('inheritable', task.capInheritable, bounding | capabilityMask(granted.inheritable)),
    ...beyond('ambient', task.capAmbient, ambient),
  ];
}

function excessIds({ uids, gids, groups }: TaskRights, spec: OciSpec): string[] {
  const { uid = 0, gid = 0, additionalGids = [] } = spec.process?.user ?? {};
  const granted = new Set([gid, ...additionalGids]);
  const others = [...new Set([...gids, ...groups])].filter((id) => !granted.has(id));
  const excess: string[] = [];
  if (!mayChange('SETUID', spec) && uids.some((id) => id !== uid))
    excess.push(`runs as user ${uids.find((id) => id !== uid)}, the pod asks for user ${uid}`);
  if (!mayChange('SETGID', spec) && others.length > 0)
    excess.push(`is in group ${others.join(', ')}, the pod asks for ${[...granted].join(', ')}`);
  return excess;
}

/** A process that may not change its ids, and may not become another by an exec, has those it was started with. */
function mayChange(capability: 'SETUID' | 'SETGID', spec: OciSpec): boolean {
  const { user, noNewPrivileges, capabilities } = spec.process ?? {};
  if (!hasCapability(spec, capability)) return false;
  const isHeld = (capabilityMask(capabilities?.ambient) & capabilityMask([capability])) !== 0n;
  return (user?.uid ?? 0) === 0 || !noNewPrivileges || isHeld;
}

function excessFlags(task: TaskRights, { spec, nice, ownLabel }: TaskGrants): string[] {
  const { noNewPrivileges } = spec.process ?? {};
  const label = labelOf(spec)?.label;
  const excess: string[] = [];
  if (noNewPrivileges && !task.noNewPrivileges) excess.push('may gain privileges, the pod forbids it');
  if (task.securebits !== 0 && !hasCapability(spec, 'SETPCAP'))
    excess.push(`has secure bits ${task.securebits}, which the pod may not set`);
  if (label !== undefined && task.lsmLabel === undefined)
    excess.push(`runs without the pod's label ${label}`);
  if (label === undefined && task.lsmLabel !== ownLabel)
    excess.push(`has the label ${task.lsmLabel ?? 'unconfined'}, the pod ${ownLabel ?? 'none'}`);
  if (task.lsmSocketLabel !== undefined)
    excess.push(`gives its sockets the label ${task.lsmSocketLabel}, the pod has none for them`);
  if (!hasCapability(spec, 'SYS_NICE')) {
    if (REAL_TIME.has(task.schedPolicy))
      excess.push('has a real-time priority, which the pod does not grant');
    if (task.nice < Math.min(0, nice)) excess.push(`has the nice value ${task.nice}, the pod ${nice}`);
  }
  return excess;
}

/** What a process has beyond what the pod grants, once limits are fitted. */
export function excessOfProcess(
  { pid, rlimits, oomScoreAdj, loginUid }: ProcessRights,
  grants: Grants,
): string[] {
  const excess: string[] = [];
  if (!hasCapability(grants.spec, 'SYS_RESOURCE')) {
    for (const [number, { hard }] of (rlimits ?? []).entries()) {
      const granted = grants.hardLimits[number] ?? 0n;
      if (hard > granted)
        excess.push(`has ${rlimitName(number)} ${sayLimit(hard)}, the pod ${sayLimit(granted)}`);
    }
    if (oomScoreAdj !== undefined && oomScoreAdj < grants.oomScoreAdj)
      excess.push(`has oom_score_adj ${oomScoreAdj}, the pod ${grants.oomScoreAdj}`);
  }
  const isForeignLogin = loginUid !== undefined && loginUid !== NO_LOGIN && loginUid !== grants.loginUid;
  if (isForeignLogin && !hasCapability(grants.spec, 'AUDIT_CONTROL'))
    excess.push(`has the login user ${loginUid}, which the pod has not`);
  return excess.map((what) => `process ${pid} ${what}`);
}

function sayLimit(limit: bigint): string {
  return limit === UNLIMITED ? 'unlimited' : `${limit}`;
}

/** Source: proc_pid_status(5). */
export function rightsFromStatus(pid: number, status: string): TaskRights {
  const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? '';
  const numbers = (name: string) => field(name).split(/\s+/).filter(Boolean).map(Number);
  const mask = (name: string) => BigInt(`0x${field(name) || '0'}`);
  return {
    pid,
    uids: numbers('Uid'),
    gids: numbers('Gid'),
    groups: numbers('Groups'),
    capInheritable: mask('CapInh'),
    capPermitted: mask('CapPrm'),
    capEffective: mask('CapEff'),
    capBounding: mask('CapBnd'),
    capAmbient: mask('CapAmb'),
    noNewPrivileges: field('NoNewPrivs') === '1',
    seccompMode: Number(field('Seccomp') || '0'),
    seccompFilter: undefined,
    // Not told there.
    securebits: 0,
    lsmLabel: undefined,
    lsmSocketLabel: undefined,
    schedPolicy: 0,
    nice: 0,
  };
}
