import { type Finding, failed, ok, warning } from './finding.ts';
import type { Machine } from './machine.ts';
import { isAtLeast } from './version.ts';

/** openat2 (5.6), close_range (5.9): the addon and the launcher cannot do without. */
export async function checkKernel({ kernel, readText, exists }: Machine): Promise<Finding[]> {
  const findings: Finding[] = [
    isAtLeast(kernel, 5, 10)
      ? ok('kernel', `Linux ${kernel}`)
      : failed('kernel', `Linux ${kernel} is older than 5.10`, 'update the kernel to 5.10 or later'),
  ];
  const fileSystems = (await readText('/proc/filesystems')) ?? '';
  findings.push(
    /\toverlay$/m.test(fileSystems)
      ? ok('overlay file system', 'the kernel has it')
      : failed(
          'overlay file system',
          'the kernel does not have it',
          'run "modprobe overlay", and at each boot',
        ),
  );
  // Source: kernel/pid_namespace.c, which has the setting with CONFIG_CHECKPOINT_RESTORE alone.
  findings.push(
    (await exists('/proc/sys/kernel/ns_last_pid'))
      ? ok('checkpoint/restore', 'the kernel has it')
      : failed(
          'checkpoint/restore',
          'the kernel was built without CONFIG_CHECKPOINT_RESTORE',
          "use a kernel that has it, as distributions' have",
        ),
  );
  return findings;
}

/** Source: the kernel's fs/userfaultfd.c, whose setting is there where the system call is. */
export async function checkUserfaultfd({ exists }: Machine): Promise<Finding[]> {
  const check = 'userfaultfd';
  return [
    (await exists('/proc/sys/vm/unprivileged_userfaultfd'))
      ? ok(check, 'memory can arrive while a restored process runs')
      : warning(
          check,
          'the kernel was built without CONFIG_USERFAULTFD: a restore waits until all memory is here',
          'use a kernel that has it, for faster restores',
        ),
  ];
}

/** Lazy layers: without it containerd unpacks them, as any others. Source: fs/erofs, which takes files from 6.12 on. */
export async function checkLazyLayers({ kernel, exists, readText, run }: Machine): Promise<Finding[]> {
  const check = 'lazy layers';
  const without = (what: string, mend: string) => [
    warning(check, `${what}: images with lazy layers are unpacked as any others`, mend),
  ];
  if (!(await exists('/dev/fuse'))) return without('there is no /dev/fuse', 'run "modprobe fuse"');
  const here = /\terofs$/m.test((await readText('/proc/filesystems')) ?? '');
  // A module is loaded by the first mount.
  if (!here && (await run('modprobe', ['--dry-run', '--quiet', 'erofs']))?.code !== 0)
    return without('the kernel has no EROFS', 'use a kernel with CONFIG_EROFS_FS');
  if (isAtLeast(kernel, 6, 12)) return [ok(check, 'mounted from files')];
  // Blocks that are smaller than a page: 6.4. Older kernels are no fault that somebody should mend.
  if (!isAtLeast(kernel, 6, 4))
    return [ok(check, `unpacked as any others: mounting them takes Linux 6.4, this is ${kernel}`)];
  return (await exists('/dev/loop-control'))
    ? [ok(check, 'mounted from loop devices')]
    : without('there are no loop devices', 'run "modprobe loop", and at each boot');
}

/** Any of what limits of containers are written to. */
const NEEDED = ['cpu', 'memory', 'pids'];

export async function checkCgroup({ readText, exists }: Machine): Promise<Finding[]> {
  const check = 'cgroup';
  const unified = await readText('/sys/fs/cgroup/cgroup.controllers');
  if (unified !== undefined) {
    const missing = NEEDED.filter((name) => !unified.trim().split(' ').includes(name));
    return [
      missing.length === 0
        ? ok(check, `v2 with ${NEEDED.join(', ')}`)
        : failed(
            check,
            `v2 without ${missing.join(', ')}`,
            'enable these controllers in the kernel command line',
          ),
    ];
  }
  const present = await Promise.all(
    [...NEEDED, 'freezer'].map(async (name) => [name, await exists(`/sys/fs/cgroup/${name}`)] as const),
  );
  const missing = present.filter(([, here]) => !here).map(([name]) => name);
  return [
    missing.length === 0
      ? ok(check, `v1 with ${[...NEEDED, 'freezer'].join(', ')}`)
      : failed(
          check,
          `neither v2 nor, of v1, ${missing.join(', ')} at /sys/fs/cgroup`,
          'mount the cgroup hierarchies there, as systemd does',
        ),
  ];
}
