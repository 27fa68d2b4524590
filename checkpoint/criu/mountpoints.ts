/** Mounts of a dump. Those with a key are external: CRIU mounts there what the caller of the restore names for the key. */
import { criu } from '../../proto/gen/criu-dump.js';
import { decodeMessage } from './decode.ts';
import { Magic, readMessages } from './framing.ts';

export interface DumpedMount {
  /** As seen from the container's root, without the leading dot that CRIU writes. */
  mountpoint: string;
  /** Key of an external mount; undefined where CRIU makes the mount itself. */
  externalKey: string | undefined;
  /** Number of CRIU's enum fstype, and the name where that is "AUTO". */
  fstype: number;
  fsname: string | undefined;
  source: string;
  options: string;
}

export function readMountpoints(bytes: Uint8Array, name: string): DumpedMount[] {
  return readMessages(bytes, Magic.mountpoints, name).map((message) => {
    const mount = decodeMessage(criu.Mount, message, name);
    return {
      mountpoint: mount.mountpoint.replace(/^\.(?=\/)/, ''),
      externalKey: mount.extKey || undefined,
      fstype: mount.fstype,
      fsname: mount.fsname || undefined,
      source: mount.source,
      options: mount.options,
    };
  });
}
