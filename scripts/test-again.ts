// test-again.ts RESULTS RUN:STATUS:SECONDS…: the cases that scripts/test runs once more, each as its run, its file and a
// pattern for vitest's -t, each ended by a NUL.

import { readRuns } from './test-runs.ts';
import { patternOf, secondTries } from './test-second-try.ts';

const [results = '', ...runs] = process.argv.slice(2);
for (const one of secondTries(readRuns(results, runs)).cases)
  process.stdout.write([one.run, one.file, patternOf(one)].map((field) => `${field}\0`).join(''));
