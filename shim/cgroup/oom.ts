/** Tells when the kernel has killed something of a container for want of memory. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Addon } from '../../native/index.ts';
import type { CgroupPlace } from './locate.ts';
import { keyed } from './values.ts';

export type OomCalls = Pick<Addon, 'watchCgroupEvent' | 'watchFile' | 'watchStop'>;

export interface OomWatch {
  /** Looks now: the notification may come after the exit of the process that was killed, on v2 10 ms late. */
  check(): void;
  close(): void;
}

/** Undefined without a memory controller. `onOom` is called once for each kill that the kernel tells of. */
export function watchOom(place: CgroupPlace, calls: OomCalls, onOom: () => void): OomWatch | undefined {
  switch (place.version) {
    case 'v1': {
      const dir = place.dirs.get('memory');
      return dir === undefined ? undefined : watchV1(dir, calls, onOom);
    }
    case 'v2': {
      const events = join(place.dir, 'memory.events');
      return existsSync(events) ? watchV2(events, calls, onOom) : undefined;
    }
  }
}

/**
 * The event comes before the kill that it tells of, and there may be several for one kill (each failed allocation makes one
 * until the process is gone): a kill is told when it is counted, which is before its signal is sent.
 */
function watchV1(dir: string, calls: OomCalls, onOom: () => void): OomWatch {
  const control = join(dir, 'memory.oom_control');
  let seen = kills(control);
  const counted = existsSync(control) && /^oom_kill /m.test(readFileSync(control, 'utf8'));
  let timer: NodeJS.Timeout | undefined;
  const look = () => {
    const count = kills(control);
    const grown = count > seen;
    for (; seen < count; seen += 1) onOom();
    return grown;
  };
  const lookAgain = ([delay, ...later]: readonly number[]) => {
    clearTimeout(timer);
    if (delay === undefined) return;
    timer = setTimeout(() => {
      if (!look()) lookAgain(later);
    }, delay);
    timer.unref();
  };
  const id = calls.watchCgroupEvent(control, join(dir, 'cgroup.event_control'), (error) => {
    // The end of the cgroup is an event too.
    if (error || !existsSync(control)) return;
    // Old kernels do not count.
    if (!counted) onOom();
    else if (!look()) lookAgain([1, 10, 100, 1000]);
  });
  return {
    check: look,
    close() {
      clearTimeout(timer);
      calls.watchStop(id);
    },
  };
}

function watchV2(events: string, calls: OomCalls, onOom: () => void): OomWatch {
  let seen = kills(events);
  const look = (count: number) => {
    if (count <= seen) return;
    seen = count;
    onOom();
  };
  const id = calls.watchFile(events, (error, text) => {
    if (!error) look(killsOf(text));
  });
  return { check: () => look(kills(events)), close: () => calls.watchStop(id) };
}

/** 0 where the cgroup is gone, and on kernels that do not count. */
function kills(file: string): number {
  try {
    return killsOf(readFileSync(file, 'utf8'));
  } catch (error) {
    if (['ENOENT', 'ENODEV'].includes((error as NodeJS.ErrnoException).code ?? '')) return 0;
    throw error;
  }
}

function killsOf(text: string | undefined): number {
  return Number(keyed(text).get('oom_kill') ?? 0);
}
