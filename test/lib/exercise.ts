/** A file-system exerciser: the same operations, drawn from a seed, on two trees that are equal and must stay so. */
import { join } from 'node:path';
import { run } from './program.ts';

/** A program of its own: it does what Node cannot, and a read that waits holds up nobody else. */
const PROGRAM = join(import.meta.dirname, '../fixtures/exercise.py');

/**
 * How often each operation succeeded. Rejects where one had another outcome on the subject than on the model, and says which,
 * with seed and step. The trees themselves are left to the caller to compare.
 */
export async function exercise(
  subject: string,
  model: string,
  { seed, steps }: { seed: number; steps: number },
): Promise<Record<string, number>> {
  const args = [PROGRAM, subject, model, String(seed), String(steps)];
  const { stdout } = await run('python3', args, { timeoutMs: 120_000 });
  return JSON.parse(stdout) as Record<string, number>;
}
