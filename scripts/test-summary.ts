// test-summary.ts [--shared] RESULTS RUN:STATUS:SECONDS… [-- STATUS…]: the closing lines of scripts/test, from vitest's JSON
// reports; --shared where files were left to one of two nodes; behind -- the exit statuses of the second tries. Exit status 1 if a test failed, or if a run that should have tests has none.

import { describeFailure, failuresOf } from './test-failures.ts';
import { describeShared } from './test-one-suite.ts';
import { readRun, readRuns } from './test-runs.ts';
import { covers, gain, passedAgain, secondTries } from './test-second-try.ts';
import { describeReport, notRun, total } from './test-totals.ts';

const shared = process.argv[2] === '--shared';
const [results = '', ...rest] = process.argv.slice(shared ? 3 : 2);
const end = rest.includes('--') ? rest.indexOf('--') : rest.length;
const runs = readRuns(results, rest.slice(0, end));
const statuses = rest.slice(end + 1).map(Number);

for (const { name, exitStatus, report, seconds } of runs) {
  const outcome = exitStatus === 0 ? 'ok' : `failed (${exitStatus})`;
  console.log(`${name}: ${outcome}, ${describeReport(report)}, ${seconds} s`);
}
const short = [...new Set(runs.flatMap(({ report }) => notRun(report))), ...(shared ? describeShared() : [])];
for (const line of short) console.log(line);
if (short.length > 0) console.log('scripts/test --full runs all of these');

const { cases, count } = secondTries(runs);
const tries = cases.map((one, i) => {
  const attempt = readRun(results, one.run, statuses[i] ?? 1, `again-${i}`);
  const run = runs.find(({ name }) => name === one.run);
  const mended = run !== undefined && passedAgain(one, attempt);
  return { one, mended, gained: mended && count ? gain(one, run, attempt) : { passed: 0, failed: 0 } };
});
// The last lines before the count: a log of CI may be cut to its end.
const lines = runs.flatMap(failuresOf).map((failure) => {
  const mended = tries.find(({ one }) => covers(one, failure))?.mended;
  const again = mended === undefined ? undefined : !mended ? 'failed' : count ? 'passed' : 'uncounted';
  return { again, line: describeFailure(failure, again) };
});
for (const { line } of lines.filter(({ again }) => again === 'passed')) console.log(line);
for (const { line } of lines.filter(({ again }) => again !== 'passed')) console.log(line);

const first = total(runs.map(({ exitStatus, report }) => ({ ok: exitStatus === 0, report })));
const passed = tries.reduce((sum, { gained }) => sum + gained.passed, first.passed);
const failed = tries.reduce((sum, { gained }) => sum + gained.failed, first.failed);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
