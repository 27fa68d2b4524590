import { SHM_DESTINATION } from '../../checkpoint/shm.ts';
import type { OciSpec } from '../task/oci-spec.ts';

/**
 * Directory of the host that a container has as /dev/shm. Undefined where that is a tmpfs of its own, which CRIU saves;
 * where it is read-only; and where it is the host's own /dev/shm (`hostIPC`), which is nobody's to save or to fill.
 */
export function sharedMemoryDir(spec: OciSpec): string | undefined {
  const mount = spec.mounts?.findLast(({ destination }) => destination === SHM_DESTINATION);
  const options = mount?.options ?? [];
  if (!mount?.source || options.includes('ro')) return undefined;
  const bound = mount.type === 'bind' || options.includes('bind') || options.includes('rbind');
  return bound && mount.source !== SHM_DESTINATION ? mount.source : undefined;
}
