/** Memfds of a dump, without the names of their files. */
import { criu } from '../../proto/gen/criu-dump.js';
import { type Int64, toBigInt } from '../int64.ts';
import { decodeMessage, optional } from './decode.ts';
import { Magic, readMessages } from './framing.ts';

export interface DumpedMemfd {
  /** Its content is in pagemap-shmem-<id>.img. */
  id: bigint;
  bytes: bigint;
  isHuge: boolean;
}

export const MEMFD_IMAGE = 'memfd.img';

export function readMemfds(bytes: Uint8Array): DumpedMemfd[] {
  return readMessages(bytes, Magic.memfdInode, MEMFD_IMAGE).map((message) => {
    const inode = decodeMessage(criu.dump.MemfdInode, message, MEMFD_IMAGE);
    return {
      id: BigInt(inode.shmid),
      bytes: toBigInt(inode.size as Int64),
      isHuge: (optional(inode, 'hugetlbFlag') ?? 0) !== 0,
    };
  });
}
