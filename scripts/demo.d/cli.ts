import { spawn } from 'node:child_process';
import { Code } from '../../proto/status.ts';
import type { Containerd } from '../../test/lib/containerd.ts';
import { run } from '../../test/lib/program.ts';
import { DemoError } from './error.ts';

/** `thaw checkpoint`: its progress goes to this terminal. */
export async function checkpoint(containerd: Containerd, containerId: string, image: string): Promise<void> {
  const child = spawn('thaw', ['checkpoint', containerId, '--image', image, '--address', containerd.socket], {
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: 600_000,
    killSignal: 'SIGTERM',
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new DemoError(Code.internal, `'thaw checkpoint' ended with status ${code}`);
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
