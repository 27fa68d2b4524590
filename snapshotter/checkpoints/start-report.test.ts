import { expect, it } from 'vitest';
import { thaw } from '../../proto/gen/thaw.js';
import { readStartReport } from './start-report.ts';

const { ReportRequest } = thaw.v1;
const { OUTCOME_RESTORED } = ReportRequest.Outcome;
const { PHASE_FETCH, PHASE_RESTORE } = ReportRequest.Phase;
/** Of a shim of a later version. */
const UNKNOWN = 99 as 0;

it('reads outcome, phase and times', () => {
  const subject = { namespace: 'n', containerId: 'c', checkpointId: 'sha256:aa', reason: '' };
  const times = [{ phase: PHASE_FETCH, ms: 13 }];
  const request = { ...subject, outcome: OUTCOME_RESTORED, phase: PHASE_RESTORE, times };
  const decoded = ReportRequest.decode(ReportRequest.encode(request).finish());
  expect(readStartReport(decoded)).toEqual({
    ...subject,
    outcome: 'restored',
    phase: 'restore',
    times: [{ phase: 'fetch', ms: 13 }],
  });
});

it('leaves out times of phases that it does not know, and refuses an outcome that it does not know', () => {
  const known = { outcome: OUTCOME_RESTORED, phase: PHASE_RESTORE };
  const read = (request: thaw.v1.IReportRequest) => readStartReport(ReportRequest.create(request));
  expect(read({ ...known, times: [{ phase: UNKNOWN, ms: 1 }] }).times).toEqual([]);
  expect(() => read({ ...known, outcome: UNKNOWN })).toThrow('without an outcome');
  expect(() => read({ ...known, phase: UNKNOWN })).toThrow('and a phase');
});
