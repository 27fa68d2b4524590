/** The shim's log: lines into the bundle's `log` fifo, which containerd copies to its own. */
import { constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Logger, pino } from 'pino';

/**
 * Never blocks: while containerd is away nobody reads the fifo, and lines that do not fit are dropped. Opened for reading
 * too, so that it opens, and stays without EPIPE, when there is no other reader.
 */
export function openLog(bundle: string, debug: boolean): Logger {
  let fd: number;
  try {
    fd = openSync(join(bundle, 'log'), constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    // Not started by containerd: nobody to tell.
    return pino({ enabled: false });
  }
  const destination = {
    write(line: string): void {
      try {
        writeSync(fd, line);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      }
    },
  };
  return pino({ level: debug ? 'debug' : 'info', base: { shim: process.pid } }, destination);
}
