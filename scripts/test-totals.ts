/** Totals over vitest's JSON reports. Source: vitest's `json` reporter, which follows Jest's format. */

export interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  testResults: TestFile[];
}

export interface TestFile {
  status: string;
  /** Its path, absolute where it ran. */
  name?: string;
  assertionResults: TestResult[];
  /** Why it failed as a whole. */
  message?: string;
}

export interface TestResult {
  status: string;
  /** Of the `describe`s around it, outermost first. */
  ancestorTitles?: string[];
  title?: string;
  /** Each with its stack. */
  failureMessages?: string[];
  /** What the test itself says; `notRun` of a short form is what it left out. */
  meta?: { notRun?: string };
}

export interface Totals {
  passed: number;
  failed: number;
}

/** Failed tests, and one for each file that failed without a failed test (it did not load, or a hook failed). */
export function failures(report: Report): number {
  const broken = report.testResults.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'),
  );
  return report.numFailedTests + broken.length;
}

export function describeReport(report: Report | undefined): string {
  if (report === undefined) return 'no report';
  const skipped = report.numPendingTests > 0 ? `, ${report.numPendingTests} skipped` : '';
  return `${report.numPassedTests} passed, ${failures(report)} failed${skipped}`;
}

/** A run without tests, or one that failed although its tests passed (a check, a crash), counts as one failure. */
export function total(runs: readonly { ok: boolean; report: Report | undefined }[]): Totals {
  let passed = 0;
  let failed = 0;
  for (const { ok, report } of runs) {
    const inRun = report === undefined ? 0 : failures(report);
    const empty = (report?.numPassedTests ?? 0) === 0;
    passed += report?.numPassedTests ?? 0;
    failed += inRun === 0 && (!ok || empty) ? 1 : inRun;
  }
  return { passed, failed };
}

/** What short forms left out, each once; nothing of tests that did not run. */
export function notRun(report: Report | undefined): string[] {
  const tests = report?.testResults.flatMap((file) => file.assertionResults) ?? [];
  const said = tests.flatMap(({ status, meta }) =>
    (status === 'passed' || status === 'failed') && meta?.notRun ? [meta.notRun] : [],
  );
  return [...new Set(said)];
}
