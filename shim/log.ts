/** The shim's log: lines into the bundle's `log` fifo, which containerd copies to its own. */
import { constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';

/** What the shim's parts log with; a pino logger is one. */
export type Log = Pick<Logger, 'debug' | 'info' | 'warn' | 'error'> & { child(fields: object): Log };

type Level = 'debug' | 'info' | 'warn' | 'error';

/**
 * Never blocks: while containerd is away nobody reads the fifo, and lines that do not fit are dropped. Opened for reading
 * too, so that it opens, and stays without EPIPE, when there is no other reader. Not started by containerd, it is silent:
 * there is nobody to tell.
 */
export function openLog(bundle: string, debug: boolean): Log {
  let fd: number;
  try {
    fd = openSync(join(bundle, 'log'), constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return silentLog;
  }
  const write = (line: string) => {
    try {
      writeSync(fd, line);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
  };
  return lateLog(
    (level) => debug || level !== 'debug',
    async () => {
      const { pino } = await import('./log-pino.ts');
      return pino({ level: debug ? 'debug' : 'info', base: { shim: process.pid } }, { write }) as Log;
    },
  );
}

/** A log that cannot be written is no reason to end; saying so would be another line. */
const ignore = () => {};

export const silentLog: Log = {
  debug: ignore,
  info: ignore,
  warn: ignore,
  error: ignore,
  child: () => silentLog,
};

/** Most shims have nothing to say in all their life: pino is loaded with the first line. Lines keep their order. */
export function lateLog(enabled: (level: Level) => boolean, load: () => Promise<Log>): Log {
  let loaded: Promise<Log> | undefined;
  const from = (pick: (logger: Log) => Log): Log => {
    let picked: Promise<Log> | undefined;
    const at =
      (level: Level) =>
      (...line: unknown[]) => {
        if (!enabled(level)) return;
        loaded ??= load();
        picked ??= loaded.then(pick);
        picked.then((logger) => (logger[level] as (...line: unknown[]) => void)(...line)).catch(ignore);
      };
    return {
      debug: at('debug'),
      info: at('info'),
      warn: at('warn'),
      error: at('error'),
      child: (fields: object) => from((logger) => pick(logger).child(fields)),
    } as Log;
  };
  return from((logger) => logger);
}
