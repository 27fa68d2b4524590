import { spawn } from 'node:child_process';
import { z } from 'zod';
import { Code, describeError } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import type { Credentials } from './credentials.ts';

export interface HelperOptions {
  environment: Readonly<Record<string, string | undefined>>;
  timeoutMs: number;
  /** Ends the program. */
  signal: AbortSignal;
}

const MAX_ANSWER_BYTES = 64 * 1024;
/** How every helper that is built on docker's library says that it has none. */
const NOT_FOUND = 'credentials not found in native keychain';
/** Instead of a user name where the secret is an identity token. */
const TOKEN_USER = '<token>';

const answerSchema = z.object({ Username: z.string(), Secret: z.string() });

/**
 * Asks the program docker-credential-`name` about a server: `get`, the server on standard input, JSON on standard
 * output. Undefined if it has nothing. Throws unauthenticated. What the program writes is in no error: it may be a
 * secret. Source: docker-credential-helpers' README, "Development".
 */
export async function askCredentialHelper(
  name: string,
  server: string,
  options: HelperOptions,
): Promise<Credentials | undefined> {
  const program = `docker-credential-${name}`;
  const failure = (why: string, cause?: unknown) =>
    new CheckpointError(
      Code.unauthenticated,
      `Cannot get the credentials for ${server}: ${program}, which the docker config.json names, ${why}`,
      { cause },
    );
  const { code, output } = await runHelper(program, server, options, failure);
  if (code !== 0) {
    if (output.trim() === NOT_FOUND) return undefined;
    throw failure(`ended with ${code}; run it by hand to see why`);
  }
  const answer = parseAnswer(output);
  if (!answer) throw failure('gave an answer that is none of a credential helper');
  if (answer.Secret === '') return undefined;
  return answer.Username === TOKEN_USER
    ? { kind: 'refresh-token', token: answer.Secret }
    : { kind: 'password', username: answer.Username, password: answer.Secret };
}

function runHelper(
  program: string,
  server: string,
  { environment, timeoutMs, signal }: HelperOptions,
  failure: (why: string, cause?: unknown) => CheckpointError,
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    // In a process group of its own, as many are scripts that run other programs.
    const child = spawn(program, ['get'], {
      stdio: ['pipe', 'pipe', 'ignore'],
      env: environment,
      detached: true,
      cwd: '/',
    });
    let output = '';
    const end = (why: string) => {
      killGroup(child.pid);
      child.stdout.destroy();
      reject(failure(why));
    };
    const timer = setTimeout(() => end(`gave no answer in ${timeoutMs / 1000} s and was ended`), timeoutMs);
    const onAbort = () => end('was ended, as the program stops');
    const settle = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      output += part;
      if (output.length > MAX_ANSWER_BYTES) end('gave an endless answer and was ended');
    });
    // One that reads nothing closes its end; its exit code says whether that was right.
    child.stdin.on('error', () => {});
    child.stdin.end(server);
    child.once('error', (cause) => {
      settle();
      const missing = describeError(cause).code === Code.notFound;
      reject(failure(missing ? 'is not in the PATH; install it' : 'cannot be run', cause));
    });
    child.once('close', (code) => {
      settle();
      resolve({ code, output });
    });
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It ended meanwhile.
  }
}

function parseAnswer(output: string): z.infer<typeof answerSchema> | undefined {
  try {
    return answerSchema.safeParse(JSON.parse(output)).data;
  } catch {
    return undefined;
  }
}
