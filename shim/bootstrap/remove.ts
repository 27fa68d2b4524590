/**
 * `delete`: takes away everything of a container whose server does not answer, in a process of its own and within
 * containerd's five seconds. Everything is tried, whatever fails before; doing it twice is no error.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { native } from '../../native/index.ts';
import { containerd } from '../../proto/gen/shim.js';
import { describeError } from '../../proto/status.ts';
import { type MountCalls, unmountRootfs } from '../mounts/index.ts';
import { ChildSpawner } from '../process/spawn.ts';
import { Runc } from '../runc/runc.ts';
import { bundlePaths, loadOptions, readPid, runcRoot } from '../task/bundle.ts';
import { toTimestamp } from '../task/timestamp.ts';
import { groupKey, socketPath } from './address.ts';
import type { ShimFlags } from './flags.ts';
import { answers, removeSocket } from './listen.ts';

export interface RemoveContext {
  /** The container's bundle. */
  bundle: string;
  env: Readonly<Record<string, string>>;
  calls: Pick<MountCalls, 'umount'>;
  now: () => bigint;
  /** One line for containerd's log. */
  warn: (line: string) => void;
}

const RUNC_DELETE_MS = 3500;
/** As if by SIGKILL. */
const EXIT_STATUS = 137;

/** Bytes of the DeleteResponse. */
export async function remove(flags: ShimFlags, context: RemoveContext): Promise<Uint8Array> {
  const { bundle, env, calls, warn } = context;
  const paths = bundlePaths(bundle);
  const attempt = async (what: string, work: () => Promise<unknown> | unknown) => {
    try {
      await work();
    } catch (error) {
      warn(`Cannot ${what}: ${describeError(error).message}`);
    }
  };
  const pid = await readPid(paths.initPid).catch(() => 0);
  await attempt('delete the container in runc', async () => {
    const options = await loadOptions(bundle);
    const runc = new Runc(
      {
        binary: options.binaryName || 'runc',
        root: runcRoot(options, flags.namespace),
        systemdCgroup: options.systemdCgroup,
        env,
        logFile: paths.log,
      },
      new ChildSpawner(native),
    );
    await runc.delete(flags.id, true, { deadlineMs: RUNC_DELETE_MS });
  });
  await attempt('unmount the root file system', () => unmountRootfs(paths.rootfs, calls));
  await attempt('remove the socket of a dead server', () => removeStaleSocket(flags, bundle));
  return containerd.task.v2.DeleteResponse.encode({
    pid,
    exitStatus: EXIT_STATUS,
    exitedAt: toTimestamp(context.now()),
  }).finish();
}

/** A server that was killed leaves its socket; one that still serves the pod's other containers answers. */
async function removeStaleSocket(flags: ShimFlags, bundle: string): Promise<void> {
  const path = addressOf(flags, bundle);
  if (path && !(await answers(path))) removeSocket(path);
}

function addressOf(flags: ShimFlags, bundle: string): string | undefined {
  const read = (name: string) => {
    try {
      return readFileSync(join(bundle, name), 'utf8');
    } catch {
      return undefined;
    }
  };
  const address = read('address')?.trim();
  if (address?.startsWith('unix://')) return address.slice('unix://'.length);
  const config = read('config.json');
  if (!config) return undefined;
  const { annotations }: { annotations?: Record<string, string> } = JSON.parse(config);
  return socketPath(flags.address, flags.namespace, groupKey(annotations, flags.id));
}
