/** What a pod and a node must have so that a checkpoint is restored there, and does not start cold. Pure. */
import type { CheckpointFacts } from '../../checkpoint/facts.ts';
import { formatBytes, printable } from '../ui/format.ts';

export interface Hindrance {
  kind: 'cpu' | 'criu' | 'cgroup' | 'gpu' | 'mount' | 'memory' | 'launch' | 'unverified' | 'plugin';
  /** Whole sentence without a full stop. */
  text: string;
}

/**
 * Flags of /proc/cpuinfo that go beyond x86-64-v3, which servers of the last ten years have. Source: the psABI of x86-64,
 * "Micro-architecture levels".
 */
const BEYOND_V3 =
  /^(avx512|avx_vnni|avx10|amx|vaes|vpclmulqdq|gfni|sha_ni|sha512|movdir|movbe_|rdpid|clwb|avx_ifma|avx_ne)/;

/** Mounted into every container of a pod, or into each that does not ask for something else. */
const OF_EVERY_POD = new Set([
  '/proc',
  '/dev',
  '/dev/pts',
  '/dev/mqueue',
  '/dev/shm',
  '/sys',
  '/sys/fs/cgroup',
  '/etc/hosts',
  '/etc/hostname',
  '/etc/resolv.conf',
  '/dev/termination-log',
  '/var/run/secrets/kubernetes.io/serviceaccount',
]);

export function hindrances(facts: CheckpointFacts): Hindrance[] {
  const { host, launch, mounts, cuda } = facts;
  const found: Hindrance[] = [];
  const add = (kind: Hindrance['kind'], text: string) => found.push({ kind, text: printable(text) });

  if (!facts.verified) add('unverified', 'it was not restored once before it was published');
  const newer = host.cpuFlags.filter((flag) => BEYOND_V3.test(flag));
  const level = host.arch === 'amd64' && newer.length > 0 ? `, ${newer.join(' ')} among them` : '';
  add('cpu', `a node needs ${host.arch} and the CPU features of this one (${host.cpuFlags.length})${level}`);
  add('criu', `a node needs CRIU ${host.criu} or later`);
  add('cgroup', `a node needs cgroup ${host.cgroup}`);
  if (cuda) {
    const names = [...new Set(cuda.gpus.map(({ name }) => name))].join(', ');
    add(
      'gpu',
      `a pod needs ${cuda.gpus.length} GPU of the kind ${names}, and driver ${cuda.driver} or later`,
    );
  }
  add('memory', `a pod needs ${formatBytes(facts.memoryBytes)} of memory from the start`);
  const own = mounts.filter(({ destination }) => !OF_EVERY_POD.has(destination));
  if (own.length > 0)
    add(
      'mount',
      `a pod must mount ${own.map(({ destination, readOnly }) => `${destination}${readOnly ? ' (read-only)' : ''}`).join(', ')}`,
    );
  if (launch.uid !== 0 || launch.gid !== 0)
    add('launch', `a pod must run it as the user ${launch.uid}:${launch.gid}`);
  add(
    'launch',
    `a pod must run the same command with the same ${launch.env.length} variables of the environment`,
  );
  return found;
}
