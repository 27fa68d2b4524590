/** Resident memory of a container over time. */
import { existsSync, readFileSync } from 'node:fs';

export interface Point {
  /** Milliseconds since the restore was asked for. */
  ms: number;
  bytes: number;
}

const INTERVAL_MS = 10;

/**
 * Anonymous memory of all processes in a container's cgroup: CRIU puts a task there before it brings its memory, so
 * memory that comes before the process runs is seen too.
 */
export class Sampler {
  readonly points: Point[] = [];
  #timer: NodeJS.Timeout | undefined;

  begin(cgroup: string, askedNs: number): void {
    const take = () => {
      const ms = (Number(process.hrtime.bigint()) - askedNs) / 1e6;
      this.points.push({ ms, bytes: residentOf(cgroup) });
    };
    take();
    this.#timer = setInterval(take, INTERVAL_MS);
  }

  end(): void {
    clearInterval(this.#timer);
  }
}

/** Bytes; 0 while there is no such cgroup. */
function residentOf(cgroup: string): number {
  const file = ['/sys/fs/cgroup/pids', '/sys/fs/cgroup']
    .map((root) => `${root}${cgroup}/cgroup.procs`)
    .find(existsSync);
  if (file === undefined) return 0;
  return read(file)
    .split('\n')
    .filter((pid) => pid !== '')
    .reduce((sum, pid) => sum + anonymousBytes(read(`/proc/${pid}/status`)), 0);
}

/** Of /proc/PID/status; 0 for a process without memory of its own, which is about to end. */
export function anonymousBytes(status: string): number {
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}

/** Empty where the process or the cgroup has gone meanwhile. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
