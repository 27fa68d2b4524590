/**
 * A bench's part inside the test node (scripts/bench is the part outside): argv in, a table and, when asked for, one
 * JSON line out. Exit status 1 if something could not be measured.
 */
import { parseArgs } from 'node:util';
import { describeError } from '../../proto/status.ts';
import { jsonReport, textReport } from './report.ts';
import { runShimBench } from './shim/bench.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
});
if (positionals[0] !== 'shim') throw new Error('Run scripts/bench; it calls this program');

try {
  const report = await runShimBench(
    { quick: values.quick, profile: values.profile, only: values.only?.split(',') },
    (line) => process.stderr.write(`${line}\n`),
  );
  process.stdout.write(`${textReport(report)}\n`);
  if (values.json) process.stdout.write(`${JSON.stringify(jsonReport(report))}\n`);
} catch (error) {
  process.stderr.write(`error: ${describeError(error).message}\n`);
  process.exitCode = 1;
}
// A daemon that could not be stopped must not keep anyone waiting: the node ends it.
process.exit();
