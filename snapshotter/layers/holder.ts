/** Starts the process that keeps the FUSE device: native/launcher/hold.h. */
import { closeSync, read } from 'node:fs';
import { promisify } from 'node:util';
import type { Addon } from '../../native/index.ts';
import { unavailable } from '../error.ts';

export type HolderCalls = Pick<Addon, 'spawn' | 'pidfdWait' | 'pidfdSendSignal' | 'pipe' | 'duplicate'>;

const readAsync = promisify(read);
const START_MS = 10_000;
const NULL = -1;
const SIGKILL = 9;

/** Its pid, once it outlives this process. */
export async function startHolder(calls: HolderCalls, program: string, device: number): Promise<number> {
  const [reader, writer] = calls.pipe();
  let started: { pid: number; pidfd: number };
  let killer: number;
  try {
    started = calls.spawn(program, ['hold'], [], '/', [NULL, NULL, NULL, device, writer], 0);
    killer = calls.duplicate(started.pidfd);
    // While it is a child of ours, its end is ours to see; nothing depends on it.
    calls.pidfdWait(started.pidfd, () => {});
  } finally {
    closeSync(writer);
  }
  const timer = setTimeout(() => calls.pidfdSendSignal(killer, SIGKILL), START_MS);
  try {
    const { bytesRead } = await readAsync(reader, Buffer.alloc(1), 0, 1, null);
    if (bytesRead !== 1) throw unavailable(`${program} did not start`);
    return started.pid;
  } finally {
    clearTimeout(timer);
    closeSync(killer);
    closeSync(reader);
  }
}
