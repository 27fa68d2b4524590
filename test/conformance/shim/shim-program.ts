/** A shim's program as containerd runs it: `start`, `delete`, `-info`, `-v`. */
import { spawn } from 'node:child_process';
import { containerd as api } from '../../../proto/gen/shim.js';
import { Code } from '../../../proto/status.ts';
import { TestError } from '../../lib/index.ts';
import type { Peer } from './peer.ts';

export interface Daemon {
  /** containerd's gRPC socket; shims only make names of it. */
  address: string;
  /** containerd's ttrpc socket, for events. */
  ttrpcAddress: string;
}

export interface Invocation {
  peer: Peer;
  daemon: Daemon;
  namespace: string;
  id: string;
  bundle: string;
  stdin?: Uint8Array;
  env?: NodeJS.ProcessEnv;
  debug?: boolean;
  /** More flags before the action. */
  flags?: readonly string[];
}

export interface Output {
  code: number;
  stdout: Buffer;
  stderr: string;
}

/** What `start` answered, in whichever of containerd's forms. */
export interface Address {
  version: number;
  /** Path of the socket. */
  path: string;
}

const DEADLINE_MS = 20_000;

/** Runs the program until it exited and everything it left closed its output. */
export function runShim(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv; stdin?: Uint8Array },
): Promise<Output> {
  // containerd gives shims a process group of their own.
  const child = spawn(program, args, {
    stdio: 'pipe',
    detached: true,
    env: { ...process.env, ...options.env },
    ...(options.cwd ? { cwd: options.cwd } : {}),
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
  child.stdin.on('error', () => {});
  child.stdin.end(options.stdin ?? new Uint8Array());
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.stdout.destroy();
      child.stderr.destroy();
      reject(
        new TestError(
          Code.deadlineExceeded,
          `No end of "${program} ${args.join(' ')}" and its output\n${Buffer.concat(err)}`,
        ),
      );
    }, DEADLINE_MS);
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({
        code: code ?? -1,
        stdout: Buffer.concat(out),
        stderr: Buffer.concat(err).toString(),
      });
    });
  });
}

function common({ daemon, namespace, id, debug }: Invocation): string[] {
  return [
    '-namespace',
    namespace,
    '-address',
    daemon.address,
    '-publish-binary',
    '/usr/bin/containerd',
    '-id',
    id,
    ...(debug ? ['-debug'] : []),
  ];
}

/** As containerd 1.7 and later set it; 1.6 sets the first two. */
function environment({ daemon, namespace, env }: Invocation): NodeJS.ProcessEnv {
  return {
    TTRPC_ADDRESS: daemon.ttrpcAddress,
    GOMAXPROCS: '2',
    GRPC_ADDRESS: daemon.address,
    NAMESPACE: namespace,
    MAX_SHIM_VERSION: '2',
    ...env,
  };
}

/** `start`, with all it printed. */
export function startOutput(call: Invocation): Promise<Output> {
  const { peer, bundle, stdin, flags = [] } = call;
  return runShim(peer.program, [...common(call), ...flags, 'start'], {
    cwd: bundle,
    env: environment(call),
    ...(stdin ? { stdin } : {}),
  });
}

export async function startShim(call: Invocation): Promise<Address> {
  const { code, stdout, stderr } = await startOutput(call);
  if (code !== 0) throw new TestError(Code.unknown, `${call.peer.name} start ended with ${code}: ${stderr}`);
  return parseAddress(stdout.toString());
}

/** A plain address, or JSON of containerd 1.7 and later. */
export function parseAddress(text: string): Address {
  const answer: { version: number; address: string } = text.startsWith('{')
    ? (JSON.parse(text) as { version: number; address: string })
    : { version: 2, address: text };
  if (!answer.address.startsWith('unix://'))
    throw new TestError(Code.unknown, `Cannot find an address in "${text}"`);
  return { version: answer.version, path: answer.address.slice('unix://'.length) };
}

export async function deleteShim(call: Invocation) {
  const { peer, bundle } = call;
  const output = await runShim(peer.program, [...common(call), '-bundle', bundle, 'delete'], {
    cwd: bundle,
    env: environment(call),
  });
  return { ...output, response: api.task.v2.DeleteResponse.decode(output.stdout) };
}
