/** Controllers of a v2 cgroup: a file such as memory.current is there only where every cgroup above hands its controller down. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Enables what the hierarchy has in all cgroups from its root down to a container's parent, as containerd's own shim does.
 * Throws the last failure after trying everywhere; a cgroup that holds processes itself refuses some (cgroups(7)).
 */
export function enableControllers(mount: string, dir: string): void {
  const [available, own] = [names(mount), names(dir)];
  const wanted = available.filter((controller) => !own.includes(controller));
  if (wanted.length === 0) return;
  let failure: unknown;
  let at = mount;
  for (const part of dir.slice(mount.length).split('/').filter(Boolean)) {
    // One by one: the kernel takes all of a line or nothing.
    for (const controller of wanted) {
      try {
        writeFileSync(join(at, 'cgroup.subtree_control'), `+${controller}`);
      } catch (error) {
        failure = error;
      }
    }
    at = join(at, part);
  }
  if (failure) throw failure;
}

function names(dir: string): string[] {
  return readFileSync(join(dir, 'cgroup.controllers'), 'utf8').split(/\s+/).filter(Boolean);
}
