/**
 * CRIU cannot save an io_uring, and programs take one without being asked: libuv since 1.50 always, whatever
 * UV_USE_IO_URING says (so Node since 24), and libuv 1.45 to 1.48 unless that is 0 (so uvloop). Where there is none they do
 * without, as under the profiles RuntimeDefault of containerd and CRI-O, which deny it. Pure.
 */
import { constants } from 'node:os';
import { annotationOf } from '../annotation.ts';
import type { OciSpec } from './oci-spec.ts';

/** On a pod: "allow" leaves io_uring to it, and a container that uses it cannot be saved. */
const ANNOTATION = 'thaw.dev/io-uring';
/** Set by containerd's CRI. Source: pkg/cri/annotations. */
const CONTAINER_TYPE = 'io.kubernetes.cri.container-type';

const WITHOUT_IO_URING = {
  defaultAction: 'SCMP_ACT_ALLOW',
  // libseccomp ends programs of an architecture that is not named.
  architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32', 'SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
  syscalls: [
    {
      names: ['io_uring_setup', 'io_uring_enter', 'io_uring_register'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: constants.errno.ENOSYS,
    },
  ],
};

/** The seccomp profile for a container that comes without one; undefined where it stays as it is. */
export function profileToAdd({ linux, annotations = {} }: OciSpec): object | undefined {
  if (linux?.seccomp || annotations[CONTAINER_TYPE] === 'sandbox') return undefined;
  if (annotationOf(annotations, ANNOTATION)?.[1] === 'allow') return undefined;
  return WITHOUT_IO_URING;
}
