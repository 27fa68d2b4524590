import { closeSync, constants, fstatSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import type { Addon } from '../../native/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import { lowerDirs } from '../checkpoint/rootfs.ts';
import type { Cleanup } from '../cleanup.ts';
import type { Mount } from '../containerd/index.ts';
import { CliError } from '../error.ts';
import type { UserFiles } from './user.ts';

const MAX_BYTES = 4 << 20;
/** umount2(2) */
const MNT_DETACH = 2;

export type UserFileCalls = Pick<Addon, 'openBeneath' | 'mountOverlay' | 'umount'>;

/** Reads the accounts of an image whose snapshot has these mounts; `dir` is made for it, and unmounted again. */
export async function readUserFiles(
  mounts: readonly Mount[],
  dir: string,
  calls: UserFileCalls,
  cleanup: Cleanup,
): Promise<UserFiles> {
  const [first, ...others] = lowerDirs(mounts) ?? [];
  if (first === undefined)
    throw new CliError(
      Code.failedPrecondition,
      'Cannot start the image: its snapshotter does not use overlay mounts; name overlayfs or thaw with --snapshotter',
    );
  const read = (root: string): UserFiles => ({
    passwd: readBeneath(root, 'etc/passwd', calls),
    group: readBeneath(root, 'etc/group', calls),
  });
  if (others.length === 0) return read(first);
  await mkdir(dir, { mode: 0o700 });
  calls.mountOverlay(dir, [first, ...others], '', '', []);
  const unmount = cleanup.add(`unmount ${dir}`, async () => calls.umount(dir, MNT_DETACH));
  const files = read(dir);
  await unmount();
  return files;
}

/** The image is untrusted: a link in it could lead anywhere on this machine. */
function readBeneath(root: string, path: string, calls: UserFileCalls): string {
  let file: number;
  try {
    file = calls.openBeneath(root, path, constants.O_RDONLY | constants.O_NONBLOCK, 0);
  } catch (error) {
    if (describeError(error).code === Code.notFound) return '';
    throw new CliError(
      Code.failedPrecondition,
      `Cannot read the image's /${path}: it must be a regular file, and no link must lead to it`,
      { cause: error },
    );
  }
  try {
    const info = fstatSync(file);
    if (!info.isFile() || info.size > MAX_BYTES)
      throw new CliError(
        Code.failedPrecondition,
        `Cannot read the image's /${path}: it must be a regular file of at most ${MAX_BYTES} bytes`,
      );
    return readFileSync(file, 'utf8');
  } finally {
    closeSync(file);
  }
}
