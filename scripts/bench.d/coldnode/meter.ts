/** Watches the link and the processors while a node starts from nothing. */
import { readFileSync } from 'node:fs';
import { parseSentBytes } from './throttle.ts';

/** Of all processors together since the machine's boot, in the kernel's ticks. */
export interface Ticks {
  idle: number;
  all: number;
}

interface Sample extends Ticks {
  ns: number;
  bytes: number;
}

/**
 * First line of /proc/stat; source: proc_stat(5). A processor that waits for a disk has nothing to do; time that the
 * hypervisor gave to others is not ours to use. Guests' time is part of the user's.
 */
export function parseTicks(text: string): Ticks {
  const fields = /^cpu +(.*)$/m.exec(text)?.[1]?.split(' ').map(Number) ?? [];
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0] = fields;
  return { idle: idle + iowait, all: user + nice + system + idle + iowait + irq + softirq };
}

const INTERVAL_MS = 20;

export class Meter {
  readonly #samples: Sample[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor() {
    const take = () => {
      const bytes = parseSentBytes(readFileSync('/proc/net/dev', 'utf8'));
      const ticks = parseTicks(readFileSync('/proc/stat', 'utf8'));
      this.#samples.push({ ns: Number(process.hrtime.bigint()), bytes, ...ticks });
    };
    take();
    this.#timer = setInterval(take, INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** The moment, in nanoseconds of CLOCK_MONOTONIC, when all but a thousandth of so many bytes had gone. */
  sentBy(bytes: number): number {
    return this.#whenSent(bytes)?.ns ?? Number.NaN;
  }

  /** Share of all processors' time in which they were busy until then. */
  busyUntilSent(bytes: number): number {
    const [first, last] = [this.#samples[0], this.#whenSent(bytes)];
    if (first === undefined || last === undefined) return Number.NaN;
    return 1 - (last.idle - first.idle) / (last.all - first.all);
  }

  #whenSent(bytes: number): Sample | undefined {
    const first = this.#samples[0]?.bytes ?? 0;
    return this.#samples.find((sample) => sample.bytes - first >= bytes * 0.999);
  }
}
