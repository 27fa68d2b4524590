/** The GPU side of a restore: what is asked before it, and what is done once CRIU has put the processes there. */
import type { Log } from '../log.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import { type CudaFacts, gpuDevices, gpuDifferences, gpuPairs, visibleGpus } from './gpus.ts';
import { outerPids } from './processes.ts';
import { returnToGpu } from './sequence.ts';
import type { Helper } from './suspend.ts';

/** Of one restore. */
export interface GpuRestore {
  /** Why the checkpoint's GPU state cannot run in the container; empty if it can. */
  differences(): Promise<string[]>;
  /**
   * All CUDA processes of the restored container run then. Rejects where they cannot, or not within `deadlineMs`: the
   * container must be killed. May be called again, for another one from the same images.
   */
  resume(init: number, deadlineMs?: number): Promise<void>;
  /** Ends the program behind it. */
  close(): void;
}

/** The program starts at once: it is ready when the processes are. */
export function prepareGpuRestore(facts: CudaFacts, spec: OciSpec, helper: Helper, log: Log): GpuRestore {
  const live = helper.gpus().then(({ driver, gpus }) => ({ driver, gpus: visibleGpus(spec, gpus) }));
  live.catch(() => {});
  return {
    async differences() {
      const now = await live;
      // The driver forgets a GPU that nobody has open, and a restore then needs a cuInit first.
      if (now.gpus.some(({ persistence }) => !persistence))
        log.warn(
          {},
          'persistence mode of a GPU is off: a restore may fail; switch it on with "nvidia-smi -pm 1"',
        );
      return gpuDifferences(facts, now);
    },
    async resume(init, deadlineMs) {
      const pids = await outerPids(
        init,
        facts.processes.map(({ pid }) => pid),
      );
      // /dev came from the checkpoint, with the nodes of the GPUs it had; runc makes none at a restore.
      for (const device of gpuDevices(spec)) await helper.makeDevice(init, device);
      const pairs = gpuPairs(facts, (await live).gpus);
      const phases = await returnToGpu(pids, pairs, helper, deadlineMs);
      const gpuBytes = facts.processes.reduce((sum, { bytes }) => sum + bytes, 0);
      log.info({ processes: pids.length, gpuBytes, moved: pairs.length > 0, ...phases }, 'GPU state is back');
    },
    close: () => helper.close(),
  };
}
