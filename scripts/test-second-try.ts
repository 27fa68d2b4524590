/**
 * A second try for the cases that failed in a run of vitest, and for files in which a hook failed. On few cores they can
 * fail only because the machine was busy: real daemons have time-outs of their own. Then they pass alone; what is broken
 * fails again.
 */

import { relative } from 'node:path';
import { failures, type Report, type TestFile } from './test-totals.ts';

/** More failed cases than these in all are no busy machine: what passes alone then is shown, and counts as failed. */
const AT_MOST = 4;
/** Of more than these nothing is run again: it would take longer than reading what they say. */
const MOST_TRIED = 16;

export interface Run {
  name: string;
  /** 1 where vitest says that something failed; others are of a time-out, of the node, of a crash. */
  exitStatus: number;
  report: Report | undefined;
  /** What failed outside of all cases (see outside-reporter.ts); undefined where nobody could say. */
  outside: readonly Outside[] | undefined;
  /** What the report's paths begin with. */
  root: string;
}

export interface Outside {
  /** The test file that it happened in, absolute where it ran; absent where nobody can say. */
  file?: string;
  message: string;
}

export interface Case {
  /** The run in which it failed. */
  run: string;
  /** Its path in the repository. */
  file: string;
  /** As vitest puts it together for `-t`; absent for all cases of a file in which a hook failed. */
  name?: string;
}

function namesOf(file: TestFile, status: string): string[] {
  return file.assertionResults
    .filter((test) => test.status === status)
    .map(({ ancestorTitles = [], title = '' }) => [...ancestorTitles, title].join(' > '));
}

const filesOf = ({ report }: Run) => report?.testResults ?? [];

function casesOf(run: Run, status: string, files = filesOf(run)): Case[] {
  return files.flatMap((file) =>
    namesOf(file, status).map((name) => ({ run: run.name, file: relative(run.root, file.name ?? ''), name })),
  );
}

const passed = ({ exitStatus, report }: Run) =>
  exitStatus === 0 && report !== undefined && report.numPassedTests > 0 && failures(report) === 0;

/** Whether failed cases, and files with failed hooks, are all that is wrong with a run. */
function onlyCasesFailed(run: Run): boolean {
  const { exitStatus, report, outside } = run;
  if (exitStatus !== 1 || report === undefined || outside === undefined || failures(report) === 0)
    return false;
  const hooks = new Set(outside.map(({ file }) => file));
  if (!filesOf(run).every(({ name, status }) => !hooks.has(name) || status === 'failed')) return false;
  const known = new Set(filesOf(run).map(({ name }) => name));
  if (![...hooks].every((file) => file !== undefined && known.has(file))) return false;
  // A file that failed as a whole counts as a failure without a case.
  return filesOf(run).every(
    (file) => file.status !== 'failed' || hooks.has(file.name) || namesOf(file, 'failed').length > 0,
  );
}

function triesOf(run: Run): Case[] {
  const hooks = new Set(run.outside?.map(({ file }) => file));
  const whole = filesOf(run).filter(({ name }) => hooks.has(name));
  const others = filesOf(run).filter(({ name }) => !hooks.has(name));
  return [
    ...whole.map(({ name = '' }) => ({ run: run.name, file: relative(run.root, name) })),
    ...casesOf(run, 'failed', others),
  ];
}

export interface SecondTries {
  cases: Case[];
  /** Whether one that passes counts as passed. */
  count: boolean;
}

/** What to run once more: nothing where something else failed too, which no second try mends. */
export function secondTries(runs: readonly Run[]): SecondTries {
  const broken = runs.filter((run) => !passed(run));
  const failed = broken.reduce((sum, { report }) => sum + (report === undefined ? 0 : failures(report)), 0);
  const cases = broken.every(onlyCasesFailed) && failed <= MOST_TRIED ? broken.flatMap(triesOf) : [];
  return { cases, count: failed <= AT_MOST };
}

/** The regular expression for vitest's `-t` that only this name matches; any for a whole file. */
export function patternOf({ name }: Case): string {
  return name === undefined ? '.' : `^${name.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}$`;
}

/** Whether the second try ran the case, and nothing failed. */
export function passedAgain({ file, name }: Case, attempt: Run): boolean {
  return (
    passed(attempt) &&
    attempt.outside?.length === 0 &&
    casesOf(attempt, 'passed').some((ran) => ran.file === file && (name === undefined || ran.name === name))
  );
}

/** What a second try that passed changes of the totals. */
export function gain(one: Case, first: Run, attempt: Run): { passed: number; failed: number } {
  if (one.name !== undefined) return { passed: 1, failed: -1 };
  const here = filesOf(first).filter(({ name = '' }) => relative(first.root, name) === one.file);
  const count = (run: Run, status: string, files?: TestFile[]) => casesOf(run, status, files).length;
  return {
    passed: count(attempt, 'passed') - count(first, 'passed', here),
    failed: -Math.max(1, count(first, 'failed', here)),
  };
}

/** Whether this was among what the case's second try ran. */
export function covers(tried: Case, { run, file, name }: Case): boolean {
  return tried.run === run && tried.file === file && (tried.name === undefined || tried.name === name);
}
