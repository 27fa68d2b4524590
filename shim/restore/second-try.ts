/**
 * Whether a failed restore is tried once more, from CRIU on. A process whose GPU part has failed stays checkpointed and
 * cannot be asked again (driver 580: 304, 401), but another one from the same images can: room on the GPU, or the driver's
 * program, may be there now. Whatever else fails would fail again. Pure.
 */
import { Code, describeError } from '../../proto/status.ts';

/** The second try takes about as long as the first, and the cold start after it must fit into the kubelet's two minutes. */
const FIRST_TRY_MS = 40_000;

export function deservesSecondTry(cause: unknown, tookMs: number): boolean {
  const { code, context } = describeError(cause);
  // dataLoss: the images lack a process.
  return context['phase'] === 'gpu' && code !== Code.dataLoss && tookMs <= FIRST_TRY_MS;
}
