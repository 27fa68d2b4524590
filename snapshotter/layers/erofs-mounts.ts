/** EROFS mounts of lazy layers: metadata from one file, data from another; on loop devices where the kernel wants those. */
import { closeSync } from 'node:fs';
import type { Addon } from '../../native/index.ts';
import { describeError } from '../../proto/status.ts';
import { unavailable } from '../error.ts';

export type MountCalls = Pick<Addon, 'mount' | 'umount' | 'loopAttach'>;

const MS_RDONLY = 1;
const MS_NODEV = 4;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

export class ErofsMounts {
  readonly #calls: MountCalls;
  #byLoop: boolean;

  /** `loop`: also where the kernel mounts EROFS from files. */
  constructor(calls: MountCalls, how: 'auto' | 'loop') {
    this.#calls = calls;
    this.#byLoop = how === 'loop';
  }

  /** On top of what is mounted there already. UNAVAILABLE where the kernel cannot do it. */
  mount(metadata: string, tar: string, directory: string): void {
    try {
      if (!this.#byLoop && this.#mountFiles(metadata, tar, directory)) return;
      this.#mountLoops(metadata, tar, directory);
    } catch (cause) {
      const { message } = describeError(cause);
      throw unavailable(
        `Cannot mount a lazy layer (EROFS needs Linux 6.12, or loop devices and Linux 6.4): ${message}`,
        { cause },
      );
    }
  }

  /** Takes away what is on top; whoever uses it goes on. False if nothing is mounted there. */
  unmountTop(directory: string): boolean {
    try {
      this.#calls.umount(directory, MNT_DETACH | UMOUNT_NOFOLLOW);
      return true;
    } catch (error) {
      const { errno } = describeError(error).context;
      if (errno === 'EINVAL' || errno === 'ENOENT') return false;
      throw error;
    }
  }

  unmountAll(directory: string): void {
    while (this.unmountTop(directory));
  }

  /** False where the kernel takes no files (before 6.12: ENOTBLK). */
  #mountFiles(metadata: string, tar: string, directory: string): boolean {
    try {
      this.#calls.mount(metadata, directory, 'erofs', MS_RDONLY | MS_NODEV, `device=${tar}`);
      return true;
    } catch (error) {
      if (describeError(error).context['errno'] !== 'ENOTBLK') throw error;
      this.#byLoop = true;
      return false;
    }
  }

  #mountLoops(metadata: string, tar: string, directory: string): void {
    const { mount, loopAttach } = this.#calls;
    const devices: { device: string; fd: number }[] = [];
    try {
      for (const file of [metadata, tar]) devices.push(loopAttach(file, true));
      const [first, second] = devices;
      mount(first?.device ?? '', directory, 'erofs', MS_RDONLY | MS_NODEV, `device=${second?.device}`);
    } finally {
      // The mount has them now; without it they go.
      for (const { fd } of devices) closeSync(fd);
    }
  }
}
