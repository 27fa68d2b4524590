/** What AppArmor or SELinux makes of a container. Pure. */
import type { OciSpec } from './task/oci-spec.ts';

export type Lsm = 'apparmor' | 'selinux';

/** What CRIU is told to label every task with that has a label, whichever its image names. */
export function labelOf({ process }: OciSpec): { lsm: Lsm; label: string } | undefined {
  const { apparmorProfile, selinuxLabel } = process ?? {};
  if (selinuxLabel) return { lsm: 'selinux', label: selinuxLabel };
  if (apparmorProfile && apparmorProfile !== 'unconfined') return { lsm: 'apparmor', label: apparmorProfile };
  return undefined;
}

/** Of /proc/PID/attr/current: "profile (mode)" of AppArmor, a context of SELinux, or nothing that confines. */
export function readLabel(current: string): string | undefined {
  const label = current.replace(/[\0\n]+$/, '').replace(/ \([a-z]+\)$/, '');
  return label === '' || label === 'unconfined' ? undefined : label;
}

/**
 * Flags of `runc restore`: the pod's label in the place of the one in the images, and the pod's context on the mounts that
 * have one. Under SELinux each pod has categories of its own, and what is mounted with another pod's could not be written to.
 */
export function labelFlags(spec: OciSpec): string[] {
  const granted = labelOf(spec);
  if (!granted) return [];
  const context = granted.lsm === 'selinux' ? spec.linux?.mountLabel : undefined;
  return [
    ...['--lsm-profile', `${granted.lsm}:${granted.label}`],
    ...(context ? ['--lsm-mount-context', context] : []),
  ];
}

const NAMES: Readonly<Record<string, string>> = { apparmor: 'AppArmor', selinux: 'SELinux' };

/** For a message; of a checkpoint it may be anything. */
export function lsmName(lsm: string): string {
  return NAMES[lsm] ?? 'neither AppArmor nor SELinux';
}
