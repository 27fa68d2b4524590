/** The first answer of a server that starts. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Code, describeError } from '../../../proto/status.ts';
import { BenchError } from '../error.ts';

const DEADLINE_MS = 600_000;
const ONE_MS = 120_000;
const PAUSE_MS = 5;

/** Asks until it comes, as a load balancer with nowhere else to go would. */
export async function firstAnswer(ip: string, path: string): Promise<string> {
  const url = `http://${ip}:8080${path}`;
  const began = performance.now();
  for (;;) {
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(ONE_MS) });
      if (!response.ok) throw new BenchError(Code.failedPrecondition, `${url} answered ${response.status}`);
      return await response.text();
    } catch (error) {
      if (error instanceof BenchError) throw error;
      if (performance.now() - began > DEADLINE_MS)
        throw new BenchError(Code.deadlineExceeded, `No answer from ${url}: ${describeError(error).message}`);
    }
    await sleep(PAUSE_MS);
  }
}
