/** Open files of a dump. */
import { criu } from '../../proto/gen/criu-dump.js';
import { type Int64, toBigInt } from '../int64.ts';
import { decodeMessage, optional } from './decode.ts';
import { Magic, readMessages } from './framing.ts';

export interface DumpedFile {
  id: number;
  /** Number of CRIU's enum fd_types; 1 is a regular file, mapped ones included. */
  type: number;
  /** Of a regular file: path in its mount, and the size that CRIU checks at restore. */
  path: string | undefined;
  size: bigint | undefined;
  /** Kind and permissions, as stat(2) has them; CRIU checks them too. */
  mode: number | undefined;
  /** Given by the caller of the restore under this path as key, rather than opened. */
  isExternal: boolean;
}

export interface DumpedDescriptor {
  fd: number;
  /** Id of the file in files.img. */
  file: number;
}

export function readFiles(bytes: Uint8Array): DumpedFile[] {
  const name = 'files.img';
  return readMessages(bytes, Magic.files, name).map((message) => {
    const { id, type, reg } = decodeMessage(criu.dump.File, message, name);
    const size = reg ? optional(reg, 'size') : undefined;
    return {
      id,
      type,
      path: reg?.name,
      size: size === undefined ? undefined : toBigInt(size as Int64),
      mode: reg ? optional(reg, 'mode') : undefined,
      isExternal: reg?.ext === true,
    };
  });
}

/** fdinfo-<files id>.img: the descriptor table that processes with that id have. */
export function readDescriptors(bytes: Uint8Array, name: string): DumpedDescriptor[] {
  return readMessages(bytes, Magic.fdinfo, name).map((message) => {
    const { fd, id } = decodeMessage(criu.dump.FdInfo, message, name);
    return { fd, file: id };
  });
}
