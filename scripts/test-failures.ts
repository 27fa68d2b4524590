/** What failed, one line each: a log of CI may be cut to its end, where these lines are. */

import { relative } from 'node:path';
import type { Case, Run } from './test-second-try.ts';
import type { TestFile, TestResult } from './test-totals.ts';

/** More of a message does not help to tell one failure from another. */
const AT_MOST = 240;

/** Without a file it is of a run, without a name of a file. */
export interface Failure extends Case {
  message: string;
}

/** A message in one line, without its stack. */
function summarize(text: string): string {
  const [message = ''] = text.split(/\n\s+at /);
  const line = message.replace(/\s+/g, ' ').trim();
  return line.length > AT_MOST ? `${line.slice(0, AT_MOST)}…` : line;
}

/** Failed cases, failed hooks and what else failed outside of cases, and a run that failed without saying why. */
export function failuresOf(run: Run): Failure[] {
  const files = run.report?.testResults ?? [];
  const ofCase = (file: string, { ancestorTitles = [], title = '', failureMessages = [] }: TestResult) => ({
    run: run.name,
    file,
    name: [...ancestorTitles, title].join(' > '),
    message: summarize(failureMessages[0] ?? ''),
  });
  const ofFile = ({ name = '', assertionResults, message = '', status }: TestFile): Failure[] => {
    const file = relative(run.root, name);
    const cases = assertionResults
      .filter((test) => test.status === 'failed')
      .map((test) => ofCase(file, test));
    const outside = (run.outside ?? []).filter((one) => one.file === name);
    const whole = outside.map((one) => one.message);
    if (status === 'failed' && cases.length + whole.length === 0) whole.push(message);
    return [...cases, ...whole.map((text) => ({ run: run.name, file, message: summarize(text) }))];
  };
  const known = new Set(files.map(({ name }) => name));
  const nowhere = (run.outside ?? [])
    .filter(({ file }) => !known.has(file))
    .map(({ file, message }) => ({
      run: run.name,
      file: file === undefined ? '' : relative(run.root, file),
      message: summarize(message),
    }));
  const all = [...files.flatMap(ofFile), ...nowhere];
  if (all.length > 0) return all;
  const empty = run.report === undefined || run.report.numPassedTests === 0;
  if (run.exitStatus === 0 && !empty) return [];
  const why = run.exitStatus === 0 ? 'no test ran' : `exit status ${run.exitStatus}; see its output`;
  return [{ run: run.name, file: '', message: why }];
}

/** `again` is how its second try ended, where it had one; uncounted is one that passed, but after too many failures. */
export function describeFailure(
  { run, file, name, message }: Failure,
  again?: 'passed' | 'failed' | 'uncounted',
): string {
  const what = [run, file, ...(name === undefined ? [] : ['>', name])]
    .filter((part) => part !== '')
    .join(' ');
  switch (again) {
    case undefined:
      return `failed: ${what}: ${message}`;
    case 'failed':
      return `failed, and again alone: ${what}: ${message}`;
    case 'uncounted':
      return `failed, though not alone: ${what}: ${message}`;
    case 'passed':
      return `second try: ${what} passed only when run again, alone; at first: ${message}`;
  }
}
