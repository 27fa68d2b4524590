/** What a shim tells of a start (thaw.v1 Report), checked. Pure. */
import { thaw } from '../../proto/gen/thaw.js';
import { invalidArgument } from '../error.ts';

const { Outcome, Phase } = thaw.v1.ReportRequest;

export const OUTCOMES = ['restored', 'cold', 'failed', 'refused', 'filled', 'lost'] as const;
export const PHASES = ['plan', 'fetch', 'restore', 'memory'] as const;
export type StartOutcome = (typeof OUTCOMES)[number];
export type StartPhase = (typeof PHASES)[number];

export interface StartReport {
  namespace: string;
  containerId: string;
  /** Empty if the shim did not get so far. */
  checkpointId: string;
  outcome: StartOutcome;
  phase: StartPhase;
  /** Empty for one that was restored. */
  reason: string;
  /** Milliseconds. */
  times: { phase: StartPhase; ms: number }[];
}

/** INVALID_ARGUMENT without outcome or phase. Times of phases that this daemon does not know are left out. */
export function readStartReport(request: thaw.v1.ReportRequest): StartReport {
  const { namespace, containerId, checkpointId, reason } = request;
  const outcome = outcomeOf(request.outcome);
  const phase = phaseOf(request.phase);
  if (!outcome || !phase) throw invalidArgument('Cannot count a start without an outcome and a phase');
  const times = request.times.flatMap((time) => {
    const name = phaseOf(time.phase);
    return name ? [{ phase: name, ms: time.ms ?? 0 }] : [];
  });
  return { namespace, containerId, checkpointId, outcome, phase, reason, times };
}

function outcomeOf(outcome: thaw.v1.ReportRequest.Outcome): StartOutcome | undefined {
  switch (outcome) {
    case Outcome.OUTCOME_RESTORED:
      return 'restored';
    case Outcome.OUTCOME_COLD:
      return 'cold';
    case Outcome.OUTCOME_FAILED:
      return 'failed';
    case Outcome.OUTCOME_REFUSED:
      return 'refused';
    case Outcome.OUTCOME_FILLED:
      return 'filled';
    case Outcome.OUTCOME_LOST:
      return 'lost';
    default:
      return undefined;
  }
}

function phaseOf(phase: thaw.v1.ReportRequest.Phase | null | undefined): StartPhase | undefined {
  switch (phase) {
    case Phase.PHASE_PLAN:
      return 'plan';
    case Phase.PHASE_FETCH:
      return 'fetch';
    case Phase.PHASE_RESTORE:
      return 'restore';
    case Phase.PHASE_MEMORY:
      return 'memory';
    default:
      return undefined;
  }
}
