import { expect, it } from 'vitest';
import { thaw } from '../../proto/gen/thaw.js';
import { reportMessage } from './report.ts';

const { Outcome, Phase } = thaw.v1.ReportRequest;

it('tells whole milliseconds of the phases that are through', () => {
  const subject = { namespace: 'n', containerId: 'c' };
  expect(
    reportMessage({ ...subject, outcome: 'failed', phase: 'restore', reason: 'why', times: { fetch: 12.6 } }),
  ).toEqual({
    ...subject,
    checkpointId: '',
    outcome: Outcome.OUTCOME_FAILED,
    phase: Phase.PHASE_RESTORE,
    reason: 'why',
    times: [{ phase: Phase.PHASE_FETCH, ms: 13 }],
  });
});
