/** What confines a container of a pod on this node, where AppArmor does: CRIU gives no label to a process that was saved without one. */
import { readFile } from 'node:fs/promises';

/** containerd's CRI plug-in loads it, and gives it to every container that asks for no other (internal/cri/server). */
const DEFAULT_PROFILE = 'cri-containerd.apparmor.d';
const PROFILES = '/sys/kernel/security/apparmor/profiles';

/** `profiles`: as the kernel lists them, "name (mode)" in each line. */
export function defaultProfile(profiles: string): string | undefined {
  const names = profiles.split('\n').map((line) => line.replace(/ \([a-z]+\)$/, ''));
  return names.includes(DEFAULT_PROFILE) ? DEFAULT_PROFILE : undefined;
}

/** Undefined where pods have none. */
export async function profileOfPods(): Promise<string | undefined> {
  return defaultProfile(await readFile(PROFILES, 'utf8').catch(() => ''));
}
