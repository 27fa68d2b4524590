/**
 * A second try for the cases that failed in a run of vitest. On few cores a case can fail only because the machine was busy:
 * real daemons have time-outs of their own. Such a case passes alone; what is broken fails again.
 */

import { relative } from 'node:path';
import { failures, type Report, type TestFile } from './test-totals.ts';

/** More failed cases than these in all are no busy machine. */
const AT_MOST = 4;

export interface Run {
  name: string;
  /** 1 where vitest says that something failed; others are of a time-out, of the node, of a crash. */
  exitStatus: number;
  report: Report | undefined;
  /** What failed outside of all cases (see outside-reporter.ts); undefined where nobody could say. */
  outside: readonly string[] | undefined;
  /** What the report's paths begin with. */
  root: string;
}

export interface Case {
  /** The run in which it failed. */
  run: string;
  /** Its path in the repository. */
  file: string;
  /** As vitest puts it together for `-t`. */
  name: string;
}

function namesOf(file: TestFile, status: string): string[] {
  return file.assertionResults
    .filter((test) => test.status === status)
    .map(({ ancestorTitles = [], title = '' }) => [...ancestorTitles, title].join(' > '));
}

function casesOf({ name: run, report, root }: Run, status: string): Case[] {
  return (report?.testResults ?? []).flatMap((file) =>
    namesOf(file, status).map((name) => ({ run, file: relative(root, file.name ?? ''), name })),
  );
}

const passed = ({ exitStatus, report }: Run) =>
  exitStatus === 0 && report !== undefined && report.numPassedTests > 0 && failures(report) === 0;

/** Whether failed cases are all that is wrong with a run. */
function onlyCasesFailed(run: Run): boolean {
  const { exitStatus, report, outside } = run;
  if (exitStatus !== 1 || report === undefined || outside === undefined || outside.length > 0) return false;
  const failed = casesOf(run, 'failed').length;
  // A file that failed as a whole counts as a failure without a case.
  return failed > 0 && failed === failures(report);
}

/** The cases to run once more: none where something else failed too, which no second try mends. */
export function secondTries(runs: readonly Run[]): Case[] {
  const broken = runs.filter((run) => !passed(run));
  if (!broken.every(onlyCasesFailed)) return [];
  const cases = broken.flatMap((run) => casesOf(run, 'failed'));
  return cases.length <= AT_MOST ? cases : [];
}

/** The regular expression for vitest's `-t` that only this name matches. */
export function patternOf({ name }: Case): string {
  return `^${name.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}$`;
}

/** Whether the second try ran the case, and nothing failed. */
export function passedAgain({ file, name }: Case, attempt: Run): boolean {
  return (
    passed(attempt) &&
    attempt.outside?.length === 0 &&
    casesOf(attempt, 'passed').some((ran) => ran.file === file && ran.name === name)
  );
}

export function describeTry({ run, file, name }: Case, mended: boolean): string {
  return `second try: ${run} ${file} > ${name} ${mended ? 'passed only when run again, alone' : 'failed again'}`;
}
