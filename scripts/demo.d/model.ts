import { setTimeout as sleep } from 'node:timers/promises';
import { Code, describeError } from '../../proto/status.ts';
import { DemoError } from './error.ts';

export interface Answer {
  /** What must be equal between two servers of one model: the answer without what is about the process. */
  text: string;
  digest: string;
  /** Name of its pod as the server knows it. */
  pod: string;
  /** Process id as the server sees itself. */
  pid: number;
  /** How many questions this process has answered, this one included. */
  answered: number;
}

/** Questions asked during some work. */
export interface Load {
  /** Distinct answers: one, if all is well. */
  texts: Set<string>;
  answers: number;
  /** The longest time to an answer. */
  longestMs: number;
  failures: string[];
}

/** The HTTP face of server.py and small-server.py. */
export class ModelServer {
  readonly #base: string;

  constructor(ip: string) {
    this.#base = `http://${ip}:8080`;
  }

  async ask(question: string): Promise<Answer> {
    const { pod, pid, answered, ...rest } = await this.#get(`/answer?q=${encodeURIComponent(question)}`);
    if (
      typeof pod !== 'string' ||
      typeof pid !== 'number' ||
      typeof answered !== 'number' ||
      typeof rest['digest'] !== 'string'
    )
      throw new DemoError(Code.internal, 'The model server gave an answer of another shape');
    return { text: JSON.stringify(rest), digest: rest['digest'], pod, pid, answered };
  }

  /** Asks until the first answer comes, as a load balancer with nowhere else to go would. */
  async firstAnswer(question: string, timeoutMs: number, alive: () => Promise<void>): Promise<Answer> {
    const deadline = Date.now() + timeoutMs;
    let checked = Date.now();
    for (;;) {
      try {
        return await this.ask(question);
      } catch (error) {
        if (error instanceof DemoError) throw error;
        if (Date.now() > deadline)
          throw new DemoError(
            Code.deadlineExceeded,
            `No answer in ${timeoutMs / 1000} s: ${describeError(error).message}`,
          );
      }
      if (Date.now() - checked > 500) {
        await alive();
        checked = Date.now();
      }
      await sleep(5);
    }
  }

  /** Asks one question after the other until `work` is done, and says how that went. */
  async serveWhile<T>(question: string, work: () => Promise<T>): Promise<{ load: Load; result: T }> {
    const load: Load = { texts: new Set(), answers: 0, longestMs: 0, failures: [] };
    let done = false;
    const asking = (async () => {
      while (!done) {
        const began = performance.now();
        try {
          load.texts.add((await this.ask(question)).text);
          load.answers += 1;
        } catch (error) {
          load.failures.push(describeError(error).message);
        }
        load.longestMs = Math.max(load.longestMs, performance.now() - began);
        await sleep(50);
      }
    })();
    try {
      return { load, result: await work() };
    } finally {
      done = true;
      await asking;
    }
  }

  async setToken(token: string): Promise<void> {
    await this.#get(`/token?set=${encodeURIComponent(token)}`, 'POST');
  }

  async token(): Promise<unknown> {
    return (await this.#get('/token'))['token'];
  }

  async #get(path: string, method = 'GET'): Promise<Record<string, unknown>> {
    const answer = await fetch(`${this.#base}${path}`, { method, signal: AbortSignal.timeout(60_000) });
    if (!answer.ok)
      throw new DemoError(Code.internal, `The model server answered ${answer.status} to ${path}`);
    return (await answer.json()) as Record<string, unknown>;
  }
}
