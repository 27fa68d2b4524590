/**
 * The demo's part inside the test node (scripts/demo is the part outside): argv and environment in, a table and one
 * JSON line out. Exit status 1 if a promise did not hold.
 */
import { parseArgs } from 'node:util';
import { describeError } from '../../proto/status.ts';
import { runDemo } from './demo.ts';
import { Steps } from './report.ts';

const { values } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    pods: { type: 'boolean', default: false },
    cache: { type: 'string', default: '/thaw/.demo' },
    root: { type: 'string' },
  },
});
if (values.root === undefined) throw new Error('Run scripts/demo; it calls this program');

const steps = new Steps((text) => process.stdout.write(text));
try {
  const result = await runDemo(
    { small: values.small, pods: values.pods, cache: values.cache, root: values.root },
    steps,
  );
  for (const complaint of result.complaints) steps.line(`NOT AS PROMISED: ${complaint}`);
  steps.line(JSON.stringify(result.summary));
  process.exitCode = result.complaints.length === 0 ? 0 : 1;
} catch (error) {
  process.stderr.write(`error: ${describeError(error).message}\n`);
  process.exitCode = 1;
}
// A daemon that could not be stopped must not keep the demo waiting: the node ends it.
process.exit();
