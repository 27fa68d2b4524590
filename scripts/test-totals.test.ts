import { describe, expect, it } from 'vitest';
import { describeReport, notRun, type Report, total } from './test-totals.ts';

function report(passed: number, failed: number, files: Report['testResults'] = []): Report {
  return { numPassedTests: passed, numFailedTests: failed, numPendingTests: 0, testResults: files };
}

describe('total', () => {
  it('adds the runs up', () => {
    const runs = [
      { ok: true, report: report(3, 0) },
      { ok: false, report: report(4, 2) },
    ];
    expect(total(runs)).toEqual({ passed: 7, failed: 2 });
  });

  it('counts a file that did not load', () => {
    const files = [
      { status: 'failed', assertionResults: [] },
      { status: 'failed', assertionResults: [{ status: 'failed' }] },
    ];
    expect(total([{ ok: false, report: report(1, 1, files) }])).toEqual({ passed: 1, failed: 2 });
  });

  it.each([
    ['no report', { ok: true, report: undefined }, { passed: 0, failed: 1 }],
    ['no test', { ok: true, report: report(0, 0) }, { passed: 0, failed: 1 }],
    ['a failure outside its tests', { ok: false, report: report(5, 0) }, { passed: 5, failed: 1 }],
  ])('counts a run with %s as a failure', (_, run, expected) => {
    expect(total([run])).toEqual(expected);
  });
});

describe('describeReport', () => {
  it('names skipped tests only when there are some', () => {
    expect(describeReport(report(2, 1))).toBe('2 passed, 1 failed');
    expect(describeReport({ ...report(2, 0), numPendingTests: 4 })).toBe('2 passed, 0 failed, 4 skipped');
    expect(describeReport(undefined)).toBe('no report');
  });
});

describe('notRun', () => {
  it('says once what short forms left out, and nothing of tests that were not asked for', () => {
    const tests = [
      { status: 'passed', meta: { notRun: 'short form: 30 of 1,000 a' } },
      { status: 'failed', meta: { notRun: 'short form: 30 of 1,000 a' } },
      { status: 'skipped', meta: { notRun: 'short form: 30 of 1,000 b' } },
      { status: 'passed', meta: {} },
      { status: 'passed' },
    ];
    expect(notRun(report(3, 1, [{ status: 'failed', assertionResults: tests }]))).toEqual([
      'short form: 30 of 1,000 a',
    ]);
    expect(notRun(undefined)).toEqual([]);
  });
});
