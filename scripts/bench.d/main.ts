/**
 * A bench's part inside the test node (scripts/bench is the part outside): argv in, a table and, when asked for, one
 * JSON line out. Exit status 1 if something could not be measured.
 */
import { parseArgs } from 'node:util';
import { describeError } from '../../proto/status.ts';
import { jsonReport, type Report, textReport } from './report.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    only: { type: 'string' },
    plot: { type: 'string' },
    'debian-root': { type: 'string' },
    roots: { type: 'string' },
  },
});
const { quick, profile } = values;
const only = values.only?.split(',');
const progress = (line: string) => process.stderr.write(`${line}\n`);

/** One bench does not load what another needs. */
async function measure(name: string | undefined): Promise<Report> {
  switch (name) {
    case 'shim':
      return (await import('./shim/bench.ts')).runShimBench({ quick, profile, only }, progress);
    case 'restore': {
      const options = { quick, only, plotFile: values.plot };
      return (await import('./restore/bench.ts')).runRestoreBench(options, progress);
    }
    case 'coldnode': {
      const options = { quick, only, debianRoot: values['debian-root'] };
      return (await import('./coldnode/bench.ts')).runColdnodeBench(options, progress);
    }
    case 'snapshotter':
      return (await import('./snapshotter/bench.ts')).runSnapshotterBench({ quick, only }, progress);
    case 'image': {
      const options = { quick, only, roots: values.roots ?? '/debian-roots' };
      return (await import('./image/bench.ts')).runImageBench(options, progress);
    }
    default:
      throw new Error('Run scripts/bench; it calls this program');
  }
}

try {
  const report = await measure(positionals[0]);
  process.stdout.write(`${textReport(report)}\n`);
  if (values.json) process.stdout.write(`${JSON.stringify(jsonReport(report))}\n`);
  for (const failure of report.failures ?? []) {
    progress(`error: ${failure}`);
    process.exitCode = 1;
  }
} catch (error) {
  progress(`error: ${describeError(error).message}`);
  process.exitCode = 1;
}
// A daemon that could not be stopped must not keep anyone waiting: the node ends it.
process.exit();
