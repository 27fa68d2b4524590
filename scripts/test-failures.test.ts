import { describe, expect, it } from 'vitest';
import { describeFailure, type Failure, failuresOf } from './test-failures.ts';
import type { Run } from './test-second-try.ts';
import type { TestFile } from './test-totals.ts';

const works = { ancestorTitles: ['a'], title: 'works', status: 'passed' };
const fails = {
  ancestorTitles: ['a', 'b'],
  title: 'fails',
  status: 'failed',
  failureMessages: [
    'TestError: Left behind:\n  /run/x\n    at check (/thaw/test/lib/leftovers.ts:59:13)\n    at next',
  ],
};

function run(testResults: TestFile[] | undefined, more: Partial<Run> = {}): Run {
  const count = (wanted: string) =>
    testResults?.flatMap((file) => file.assertionResults).filter(({ status }) => status === wanted).length ??
    0;
  const report = testResults && {
    numPassedTests: count('passed'),
    numFailedTests: count('failed'),
    numPendingTests: 0,
    testResults,
  };
  return { name: 'forky', exitStatus: 1, report, outside: [], root: '/thaw', ...more };
}

const file = (
  status: string,
  assertionResults: TestFile['assertionResults'],
  message?: string,
): TestFile => ({
  name: '/thaw/test/x.test.ts',
  status,
  assertionResults,
  ...(message === undefined ? {} : { message }),
});
const inFile = { run: 'forky', file: 'test/x.test.ts' };

describe('failuresOf', () => {
  it.each<[string, Run, Failure[]]>([
    ['nothing where all passed', run([file('passed', [works])], { exitStatus: 0 }), []],
    [
      'a case, with its message in one line and without its stack',
      run([file('failed', [works, fails])]),
      [{ ...inFile, name: 'a > b > fails', message: 'TestError: Left behind: /run/x' }],
    ],
    [
      'a hook beside a case',
      run([file('failed', [fails])], {
        outside: [{ file: '/thaw/test/x.test.ts', message: 'a hook\ntook too long' }],
      }),
      [
        { ...inFile, name: 'a > b > fails', message: 'TestError: Left behind: /run/x' },
        { ...inFile, message: 'a hook took too long' },
      ],
    ],
    [
      'a file that does not load',
      run([file('failed', [], 'Cannot find module')]),
      [{ ...inFile, message: 'Cannot find module' }],
    ],
    [
      'an error that nobody caught',
      run([file('passed', [works])], { outside: [{ message: 'nobody' }] }),
      [{ run: 'forky', file: '', message: 'nobody' }],
    ],
    [
      'a run that was ended',
      run(undefined, { exitStatus: 124, outside: undefined }),
      [{ run: 'forky', file: '', message: 'exit status 124; see its output' }],
    ],
    [
      'a run without a test',
      run([], { exitStatus: 0 }),
      [{ run: 'forky', file: '', message: 'no test ran' }],
    ],
  ])('finds %s', (_, of, expected) => {
    expect(failuresOf(of)).toEqual(expected);
  });

  it('cuts a long message', () => {
    const long = { ...fails, failureMessages: ['x'.repeat(10_000)] };
    expect(failuresOf(run([file('failed', [long])]))[0]?.message.length).toBeLessThan(300);
  });
});

describe('describeFailure', () => {
  const one: Failure = { ...inFile, name: 'a > fails', message: 'no' };

  it('says which case it was, how it failed, and how its second try ended', () => {
    expect(describeFailure(one)).toBe('failed: forky test/x.test.ts > a > fails: no');
    expect(describeFailure(one, 'failed')).toBe(
      'failed, and again alone: forky test/x.test.ts > a > fails: no',
    );
    expect(describeFailure(one, 'uncounted')).toBe(
      'failed, though not alone: forky test/x.test.ts > a > fails: no',
    );
    expect(describeFailure(one, 'passed')).toBe(
      'second try: forky test/x.test.ts > a > fails passed only when run again, alone; at first: no',
    );
    expect(describeFailure({ ...inFile, message: 'no' })).toBe('failed: forky test/x.test.ts: no');
    expect(describeFailure({ run: 'check', file: '', message: 'no' })).toBe('failed: check: no');
  });
});
