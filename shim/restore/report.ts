/** How the start of a container with a checkpoint went: what the daemon counts (thaw.v1 Report). */
import { thaw } from '../../proto/gen/thaw.js';

/** As in proto/thaw/v1/checkpoints.proto, which says what they mean. */
export type Outcome = 'restored' | 'cold' | 'failed' | 'refused' | 'filled' | 'lost';
export type Phase = 'plan' | 'fetch' | 'restore' | 'memory';

export interface StartReport {
  namespace: string;
  containerId: string;
  /** Digest of the index, if it is known. */
  checkpointId?: string;
  outcome: Outcome;
  /** In which phase that was decided. */
  phase: Phase;
  /** Why it was not restored. */
  reason?: string;
  /** The same apart, where there are several. */
  reasons?: readonly string[];
  /** Milliseconds of phases that are through. */
  times?: Partial<Record<Phase, number>>;
}

/** Never throws and keeps nobody waiting. */
export type Report = (report: StartReport) => void;

const OUTCOME = {
  restored: thaw.v1.ReportRequest.Outcome.OUTCOME_RESTORED,
  cold: thaw.v1.ReportRequest.Outcome.OUTCOME_COLD,
  failed: thaw.v1.ReportRequest.Outcome.OUTCOME_FAILED,
  refused: thaw.v1.ReportRequest.Outcome.OUTCOME_REFUSED,
  filled: thaw.v1.ReportRequest.Outcome.OUTCOME_FILLED,
  lost: thaw.v1.ReportRequest.Outcome.OUTCOME_LOST,
} as const satisfies Record<Outcome, thaw.v1.ReportRequest.Outcome>;

const PHASE = {
  plan: thaw.v1.ReportRequest.Phase.PHASE_PLAN,
  fetch: thaw.v1.ReportRequest.Phase.PHASE_FETCH,
  restore: thaw.v1.ReportRequest.Phase.PHASE_RESTORE,
  memory: thaw.v1.ReportRequest.Phase.PHASE_MEMORY,
} as const satisfies Record<Phase, thaw.v1.ReportRequest.Phase>;

export function reportMessage(report: StartReport): thaw.v1.IReportRequest {
  const { namespace, containerId, checkpointId, outcome, phase, reason, times } = report;
  return {
    namespace,
    containerId,
    checkpointId: checkpointId ?? '',
    outcome: OUTCOME[outcome],
    phase: PHASE[phase],
    reason: reason ?? '',
    times: Object.entries(times ?? {}).map(([name, ms]) => ({
      phase: PHASE[name as Phase],
      ms: Math.round(ms),
    })),
  };
}
