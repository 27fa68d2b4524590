/**
 * Decides at Create whether a container is restored, and restores it at Start. Called by shim/main.ts alone, which hands
 * it to the task service; knows the snapshotter daemon only through thaw.v1. What is not needed by a container without
 * a checkpoint is loaded only once one is found.
 */
import { describeError } from '../../proto/status.ts';
import type { CudaFiles } from '../cuda/helper.ts';
import type { RestorePlan, StartPlanner } from '../task/start-plan.ts';
import { overlayOf, withLowerDirs } from './layers.ts';
import { findMarker, withoutCheckpointLayers } from './marker.ts';
import { wishesOf } from './policy.ts';
import type { Report } from './report.ts';

export interface RestoreConfig {
  /** Socket of the snapshotter daemon's thaw.v1 service. */
  daemonSocket: string;
  /** The launcher, which holds the userfaultfds of restores too. */
  guardProgram: string;
  /** The program that puts processes back on the GPU, and the driver's libraries. */
  cuda: CudaFiles;
  /** A container was restored from its image: all code has run that such a restore needs. */
  onRestored?(): void;
}

export function createStartPlanner(config: RestoreConfig): StartPlanner {
  const load = () => import('./restoring.ts');
  return async (input) => {
    if (input.checkpoint) {
      const code = await load();
      // Only what the caller names may be a chain of dumps; a checkpoint image never is.
      const checkImages = code.checkChain;
      return code.planGiven(input, input.checkpoint, {
        ...code.attemptDeps(),
        ...code.rootfsDeps,
        checkImages,
        prepareRecorded: code.recordedMemory(config),
        prepareGpu: code.gpuRestores(config),
        savedFacts: code.savedFacts,
        wrapperEdits: code.editsOf,
      });
    }
    const overlay = overlayOf(input.rootfs);
    const bottom = overlay?.lowerDirs.at(-1);
    const cold = { kind: 'cold', rootfs: input.rootfs } as const;
    if (!overlay || !bottom) return cold;
    const { namespace, id: containerId } = input;
    let report: Report | undefined;
    try {
      const marker = findMarker(bottom);
      if (!marker) return cold;
      const { planRestore, planDeps } = await load();
      const deps = planDeps(config, input);
      report = deps.report;
      const plan = await planRestore(input, overlay, marker, deps);
      if (plan.kind === 'cold') {
        const { reason = '', reasons } = plan;
        report({
          namespace,
          containerId,
          outcome: 'cold',
          phase: 'plan',
          reason,
          ...(reasons && { reasons }),
        });
      }
      return plan.kind === 'restore' ? whenRestored(plan, config) : plan;
    } catch (cause) {
      const { message } = describeError(cause);
      const required = wishesOf(input.spec).policy === 'require';
      const outcome = required ? 'refused' : 'cold';
      report ??= (await load()).planDeps(config, input).report;
      const reasons = cause instanceof Error && 'reasons' in cause ? (cause.reasons as string[]) : [message];
      report({ namespace, containerId, outcome, phase: 'plan', reason: reasons.join('; '), reasons });
      if (required) throw cause;
      input.log.warn({ container: input.id, reason: message }, 'starting cold');
      const lowerDirs = await withoutCheckpointLayers(overlay.lowerDirs);
      return { kind: 'cold', rootfs: withLowerDirs(input.rootfs, lowerDirs), reason: message };
    }
  };
}

function whenRestored(plan: RestorePlan, { onRestored }: RestoreConfig): RestorePlan {
  return {
    ...plan,
    async restore(start) {
      const result = await plan.restore(start);
      if (result.kind === 'restored') onRestored?.();
      return result;
    },
  };
}
