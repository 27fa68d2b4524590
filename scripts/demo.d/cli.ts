import { spawn } from 'node:child_process';
import { Code } from '../../proto/status.ts';
import type { Containerd } from '../../test/lib/containerd.ts';
import { run } from '../../test/lib/program.ts';
import { DemoError } from './error.ts';

/** What `thaw checkpoint --json` says, as far as the demo shows it. */
export interface Saved {
  /** The dump without its zero pages, and as stored. */
  decodedBytes: number;
  storedBytes: number;
  /** How long the container stood still. */
  pausedMs: number;
  steps: { label: string; ms: number }[];
}

/** `thaw checkpoint`. Its progress bars go to the terminal, if this is one. */
export async function checkpoint(
  containerd: Containerd,
  containerId: string,
  image: string,
  probe?: string,
): Promise<Saved> {
  const args = ['--address', containerd.socket, 'checkpoint', containerId, '--image', image, '--json'];
  if (probe !== undefined) args.push('--probe', probe);
  const child = spawn('thaw', args, {
    stdio: ['ignore', 'pipe', process.stderr.isTTY ? 'inherit' : 'pipe'],
    timeout: 600_000,
    killSignal: 'SIGTERM',
  });
  const output = { stdout: '', stderr: '' };
  child.stdout?.on('data', (text: Buffer) => {
    output.stdout += text.toString();
  });
  child.stderr?.on('data', (text: Buffer) => {
    output.stderr += text.toString();
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0)
    throw new DemoError(Code.internal, `'thaw checkpoint' ended with status ${code}: ${output.stderr}`);
  return JSON.parse(output.stdout) as Saved;
}

/** Ids of the checkpoints in the node cache. */
export async function cachedCheckpoints(): Promise<string[]> {
  const { stdout } = await run('thaw', ['status', '--json']);
  const { checkpoints } = JSON.parse(stdout) as { checkpoints: { id: string }[] };
  return checkpoints.map((entry) => entry.id);
}

export async function evict(id: string): Promise<void> {
  await run('thaw', ['evict', id]);
}
