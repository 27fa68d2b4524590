/**
 * How willingly the kernel ends a process: CRIU writes the checkpoint's value, runc sets it only where it makes the process
 * itself. It is the pod's to say (the kubelet's classes of service).
 */
import { writeFile } from 'node:fs/promises';
import { describeError } from '../../proto/status.ts';
import type { Log } from '../log.ts';
import { procTree, treeOf } from '../process/process-tree.ts';
import type { OciSpec } from '../task/oci-spec.ts';

/** Of a restored process and all its descendants. A value that cannot be set is told, and no reason not to run. */
export async function setOomScore(root: number, spec: OciSpec, log: Log): Promise<void> {
  const value = spec.process?.oomScoreAdj;
  if (value === undefined) return;
  // Top down: what is forked meanwhile has its parent's.
  for (const pid of await treeOf(root, procTree)) {
    try {
      await writeFile(`/proc/${pid}/oom_score_adj`, String(value));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ESRCH') continue;
      log.warn({ pid, value, reason: describeError(error).message }, "cannot set the pod's OOM score");
      return;
    }
  }
}
