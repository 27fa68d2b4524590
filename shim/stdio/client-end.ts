/** The client's ends of a process's streams: fifos and files. Nothing here blocks, whoever is at the other end. */
import { constants, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { Descriptors } from './descriptors.ts';
import type { ClientTarget } from './target.ts';

// Close-on-exec is set by libuv on everything it opens.
const { O_RDONLY, O_WRONLY, O_RDWR, O_NONBLOCK, O_APPEND, O_CREAT } = constants;

export interface ClientInput {
  reader: number;
  /** Keeps the fifo from ending before CloseIO says so. */
  writer: number;
}

export function openInput(path: string, fds: Descriptors): ClientInput {
  // A reader first: opening a fifo for writing without blocking fails while nobody reads.
  const reader = fds.add(open(path, O_RDONLY | O_NONBLOCK));
  return { reader, writer: fds.add(open(path, O_WRONLY | O_NONBLOCK)) };
}

export function openOutput(target: ClientTarget, fds: Descriptors): number {
  switch (target.kind) {
    case 'fifo':
      // Reading and writing: a client that goes away is no EPIPE, and a later one finds what was written meanwhile. A
      // path that is no fifo is a file to append to; a fifo does not care.
      return fds.add(open(target.path, O_RDWR | O_NONBLOCK | O_APPEND));
    case 'file':
      mkdirSync(dirname(target.path), { recursive: true, mode: 0o755 });
      return fds.add(open(target.path, O_WRONLY | O_NONBLOCK | O_APPEND | O_CREAT, 0o644));
  }
}

function open(path: string, flags: number, mode?: number): number {
  try {
    return openSync(path, flags, mode);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    throw new ShimError(Code.notFound, `opening ${path} failed: no such file or directory`, { cause });
  }
}
