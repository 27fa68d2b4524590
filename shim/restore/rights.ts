/**
 * Rights come from the pod, never from a checkpoint. CRIU runs as root and gives every task the ids, capabilities and
 * flags of its image; here they are held against what the live OCI spec grants, before CRIU runs and again in /proc
 * after it.
 */
import type { TaskRights } from '../../checkpoint/criu/task-rights.ts';
import type { OciSpec } from '../task/oci-spec.ts';

/** Numbers of capabilities. Source: linux/capability.h. */
const CAPABILITIES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
] as const;

export function capabilityMask(names: readonly string[] | undefined): bigint {
  let mask = 0n;
  for (const name of names ?? []) {
    const at = (CAPABILITIES as readonly string[]).indexOf(name.replace(/^CAP_/, ''));
    if (at >= 0) mask |= 1n << BigInt(at);
  }
  return mask;
}

export function capabilityNames(mask: bigint): string[] {
  return CAPABILITIES.filter((_, bit) => (mask >> BigInt(bit)) & 1n).map((name) => `CAP_${name}`);
}

/** What a task has beyond what the pod grants; empty if nothing. */
export function excessRights(task: TaskRights, spec: OciSpec): string[] {
  const process = spec.process ?? {};
  const granted = process.capabilities ?? {};
  const bounding = capabilityMask(granted.bounding);
  const excess: string[] = [];
  const who = `process ${task.pid}`;

  const beyond = (set: string, mask: bigint, limit: bigint) => {
    const more = capabilityNames(mask & ~limit);
    if (more.length > 0)
      excess.push(`${who} has ${more.join(', ')} in its ${set} set, which the pod does not grant`);
  };
  beyond('bounding', task.capBounding, bounding);
  beyond('permitted', task.capPermitted, bounding);
  beyond('effective', task.capEffective, bounding);
  beyond('inheritable', task.capInheritable, bounding | capabilityMask(granted.inheritable));
  beyond('ambient', task.capAmbient, capabilityMask(granted.ambient));

  if (process.noNewPrivileges && !task.noNewPrivileges)
    excess.push(`${who} may gain privileges, the pod forbids it`);
  if (spec.linux?.seccomp && task.seccompMode === 0)
    excess.push(`${who} runs without the pod's seccomp profile`);

  // A process that starts as another user than root and may not change its ids cannot have become root by itself.
  const maySetId = (bounding & capabilityMask(['SETUID'])) !== 0n && !process.noNewPrivileges;
  const uid = process.user?.uid ?? 0;
  if (uid !== 0 && !maySetId && task.uids.includes(0))
    excess.push(`${who} runs as root, the pod asks for user ${uid}`);
  return excess;
}

/** Source: proc_pid_status(5). */
export function rightsFromStatus(pid: number, status: string): TaskRights {
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
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
  };
}
