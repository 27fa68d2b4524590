// test-summary.ts RESULTS RUN:OUTCOME:TIME…: the closing lines of scripts/test, from vitest's JSON reports.
// Exit status 1 if a test failed, or if a run that should have tests has none.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeReport, notRun, type Report, total } from './test-totals.ts';

const [results = '', ...runs] = process.argv.slice(2);

function read(name: string): Report | undefined {
  const path = join(results, `${name}.json`);
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Report) : undefined;
}

const reports = runs.map((run) => {
  const [name = '', outcome = '', time = ''] = run.split(':');
  return { name, outcome, time, report: read(name === 'check' ? 'unit' : name) };
});
for (const { name, outcome, time, report } of reports)
  console.log(`${name}: ${outcome}, ${describeReport(report)}, ${time}`);
const short = [...new Set(reports.flatMap(({ report }) => notRun(report)))];
for (const line of short) console.log(line);
if (short.length > 0) console.log('scripts/test --full runs all of these');
const { passed, failed } = total(reports.map((r) => ({ ok: r.outcome === 'ok', report: r.report })));
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
