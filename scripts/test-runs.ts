/** The runs of scripts/test as they lie in build/test-results. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from './test-second-try.ts';

const REPO = join(import.meta.dirname, '..');
/** The checkout in the test node. */
const IN_NODE = '/thaw';

/** Undefined also where vitest was killed as it wrote. */
function read<T>(path: string): T | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch {
    return undefined;
  }
}

/** `report` is the name of the run's files in `results`. */
export function readRun(results: string, name: string, exitStatus: number, report: string): Run {
  return {
    name,
    exitStatus,
    report: read(join(results, `${report}.json`)),
    outside: read(join(results, `${report}.outside.json`)),
    root: name === 'forky' || name === 'trixie' ? IN_NODE : REPO,
  };
}

/** From NAME:STATUS:SECONDS; scripts/check names its report after the unit tests. */
export function readRuns(results: string, runs: readonly string[]): (Run & { seconds: number })[] {
  return runs.map((run) => {
    const [name = '', status, seconds] = run.split(':');
    return {
      ...readRun(results, name, Number(status), name === 'check' ? 'unit' : name),
      seconds: Number(seconds),
    };
  });
}
