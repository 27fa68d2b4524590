/** How a daemon takes the place of another one: what it was handed, and what it tells. */
import { closeSync, writeSync } from 'node:fs';
import { z } from 'zod';
import type { InheritedSockets } from './inherited-sockets.ts';

/** The variable with the hand-over. */
export const TAKE_OVER = 'THAW_TAKES_OVER';

const fd = z.number().int().min(3).max(64);
const handOverSchema = z.object({
  /** Of the daemon that hands over: a descendant that inherits the variable is not meant. */
  pid: z.number().int(),
  sockets: z.record(z.string(), fd),
  /** Where this process tells how far it is. */
  pipe: fd,
});
export type HandOver = z.infer<typeof handOverSchema>;

/** What the one that takes over tells, a line each. */
export type Stage = 'loaded' | 'ready';

export interface TakeOver {
  sockets: InheritedSockets;
  tell(stage: Stage): void;
}

/** Undefined for a daemon that takes nobody's place. */
export function takeOver(
  environment: Readonly<Record<string, string | undefined>>,
  parentPid: number,
): TakeOver | undefined {
  const handOver = parse(environment[TAKE_OVER]);
  if (handOver?.pid !== parentPid) return undefined;
  const { sockets, pipe } = handOver;
  return {
    sockets: new Map(Object.entries(sockets)),
    tell: (stage) => {
      try {
        writeSync(pipe, `${stage}\n`);
        if (stage === 'ready') closeSync(pipe);
      } catch {
        // Nobody waits for it any more: then this is the daemon all the same.
      }
    },
  };
}

function parse(text: string | undefined): HandOver | undefined {
  if (text === undefined) return undefined;
  try {
    return handOverSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
