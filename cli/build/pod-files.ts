/** What a pod's container finds mounted, made for one that is in no pod. */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Addon } from '../../native/index.ts';
import type { Cleanup } from '../cleanup.ts';
import { HOST_NAME, type PodFiles } from './oci-spec.ts';

/** mount(2), umount2(2) */
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const MNT_DETACH = 2;
/** As containerd's CRI plug-in makes it: 64 MiB. */
const SHM_OPTIONS = 'mode=1777,size=65536k';

export async function makePodFiles(
  dir: string,
  calls: Pick<Addon, 'mount' | 'umount'>,
  cleanup: Cleanup,
): Promise<PodFiles> {
  const files: PodFiles = {
    hostname: join(dir, 'hostname'),
    resolvConf: join(dir, 'resolv.conf'),
    shm: join(dir, 'shm'),
    hosts: join(dir, 'hosts'),
    terminationLog: join(dir, 'termination-log'),
    serviceAccount: join(dir, 'serviceaccount'),
  };
  await mkdir(dir, { mode: 0o700 });
  await mkdir(files.serviceAccount, { mode: 0o755 });
  await writeFile(files.hostname, `${HOST_NAME}\n`);
  await writeFile(files.resolvConf, '');
  await writeFile(files.hosts, `127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.0.1\t${HOST_NAME}\n`);
  await writeFile(files.terminationLog, '');
  for (const file of [files.hostname, files.resolvConf, files.hosts]) await chmod(file, 0o644);
  // The kubelet's, so that any user may write to it.
  await chmod(files.terminationLog, 0o666);
  await mkdir(files.shm);
  calls.mount('shm', files.shm, 'tmpfs', MS_NOSUID | MS_NODEV | MS_NOEXEC, SHM_OPTIONS);
  cleanup.add(`unmount ${files.shm}`, async () => calls.umount(files.shm, MNT_DETACH));
  return files;
}
