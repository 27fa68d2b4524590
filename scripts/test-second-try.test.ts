import { describe, expect, it } from 'vitest';
import { type Case, covers, gain, passedAgain, patternOf, type Run, secondTries } from './test-second-try.ts';
import type { Report, TestFile } from './test-totals.ts';

function file(name: string, results: [title: string, status: string][], status?: string): TestFile {
  const failed = results.some(([, each]) => each === 'failed');
  return {
    name: `/thaw/${name}`,
    status: status ?? (failed ? 'failed' : 'passed'),
    assertionResults: results.map(([title, each]) => ({ ancestorTitles: ['a', 'b'], title, status: each })),
  };
}

function report(...files: TestFile[]): Report {
  const count = (wanted: string) =>
    files.flatMap((each) => each.assertionResults).filter(({ status }) => status === wanted).length;
  return {
    numPassedTests: count('passed'),
    numFailedTests: count('failed'),
    numPendingTests: count('skipped'),
    testResults: files,
  };
}

function run(name: string, exitStatus: number, of: Report | undefined, more: Partial<Run> = {}): Run {
  return { name, exitStatus, report: of, outside: [], root: '/thaw', ...more };
}

const good = report(file('test/x.test.ts', [['works', 'passed']]));
const failed = (count: number) =>
  report(
    file('test/x.test.ts', [
      ['works', 'passed'],
      ...Array.from({ length: count }, (_, n): [string, string] => [`fails ${n}`, 'failed']),
    ]),
  );
const check = run('check', 0, good, { outside: undefined });

describe('secondTries', () => {
  it('finds the failed cases of all runs, by file and full name', () => {
    expect(
      secondTries([check, run('host', 0, good), run('forky', 1, failed(2)), run('trixie', 1, failed(1))])
        .cases,
    ).toEqual([
      { run: 'forky', file: 'test/x.test.ts', name: 'a > b > fails 0' },
      { run: 'forky', file: 'test/x.test.ts', name: 'a > b > fails 1' },
      { run: 'trixie', file: 'test/x.test.ts', name: 'a > b > fails 0' },
    ]);
  });

  it('finds nothing to do where all passed', () => {
    expect(secondTries([check, run('forky', 0, good)]).cases).toEqual([]);
  });

  it('counts up to four failed cases of all runs together, and shows of some more whether they pass alone', () => {
    const tries = (forky: number, trixie: number) => {
      const { cases, count } = secondTries([
        run('forky', 1, failed(forky)),
        run('trixie', 1, failed(trixie)),
      ]);
      return { tried: cases.length, count };
    };
    expect(tries(2, 2)).toEqual({ tried: 4, count: true });
    expect(tries(2, 3)).toEqual({ tried: 5, count: false });
    expect(tries(8, 8)).toEqual({ tried: 16, count: false });
    expect(tries(8, 9)).toEqual({ tried: 0, count: false });
  });

  it('takes a file in which a hook failed as a whole', () => {
    const broken = run('trixie', 1, hook, { outside: [{ file: '/thaw/test/y.test.ts', message: 'a hook' }] });
    expect(secondTries([run('forky', 1, failed(2)), broken]).cases).toEqual([
      { run: 'forky', file: 'test/x.test.ts', name: 'a > b > fails 0' },
      { run: 'forky', file: 'test/x.test.ts', name: 'a > b > fails 1' },
      { run: 'trixie', file: 'test/y.test.ts' },
      { run: 'trixie', file: 'test/x.test.ts', name: 'a > b > fails 0' },
    ]);
    expect(patternOf({ run: 'trixie', file: 'test/y.test.ts' })).toBe('.');
  });

  it('takes a file with a failed hook and failed cases once', () => {
    const both = run('trixie', 1, failed(3), {
      outside: [{ file: '/thaw/test/x.test.ts', message: 'a hook' }],
    });
    expect(secondTries([both]).cases).toEqual([{ run: 'trixie', file: 'test/x.test.ts' }]);
    // Each of its failed cases counts.
    expect(secondTries([both, run('forky', 1, failed(2))]).count).toBe(false);
  });

  const hook = report(...failed(1).testResults, file('test/y.test.ts', [['works', 'passed']], 'failed'));
  it.each<[string, Run]>([
    ['the checks', run('check', 1, failed(1), { outside: undefined })],
    ['a run without a report', run('trixie', 1, undefined)],
    ['a run that ran out of time', run('trixie', 124, failed(1))],
    ['a node', run('trixie', 125, good)],
    ['a run outside of its cases', run('trixie', 1, good)],
    [
      'a run outside of its cases too',
      run('trixie', 1, failed(1), { outside: [{ message: 'nobody caught this' }] }),
    ],
    ['a run that could not say what failed outside', run('trixie', 1, failed(1), { outside: undefined })],
    ['a whole file too, and nobody says why', run('trixie', 1, hook)],
    ['a file that was never run', run('trixie', 1, hook, { outside: [{ file: '/z', message: 'no' }] })],
    ['a run without a case', run('trixie', 0, report())],
  ])('mends nothing where something else failed: %s', (_, broken) => {
    expect(secondTries([run('forky', 1, failed(1)), broken]).cases).toEqual([]);
  });
});

describe('patternOf', () => {
  const name = 'a > ends (with $1) [or not] at 1.5 | 2* {x} ^y\\z? + /run/a-b';
  const pattern = new RegExp(patternOf({ run: 'forky', file: 'test/x.test.ts', name }));

  it('matches the name', () => {
    expect(name).toMatch(pattern);
  });

  it.each([`${name} again`, `b > ${name}`, name.replace('1.5', '155')])('does not match %s', (other) => {
    expect(other).not.toMatch(pattern);
  });
});

describe('passedAgain', () => {
  const one: Case = { run: 'forky', file: 'test/x.test.ts', name: 'a > b > works' };

  it('takes the case as passed when it alone ran and passed', () => {
    expect(passedAgain(one, run('forky', 0, good))).toBe(true);
    const others = report(file('test/x.test.ts', [['works', 'passed'], ['other', 'skipped']])); // biome-ignore format: a row
    expect(passedAgain(one, run('forky', 0, others))).toBe(true);
  });

  const otherFile = report(file('test/y.test.ts', [['works', 'passed']]));
  const twice = report(file('test/x.test.ts', [['works', 'passed'], ['works', 'failed']])); // biome-ignore format: a row
  it.each<[string, Run]>([
    ['it failed', run('forky', 1, report(file('test/x.test.ts', [['works', 'failed']])))],
    ['there is no report', run('forky', 0, undefined)],
    ['it did not run', run('forky', 0, report(file('test/x.test.ts', [['works', 'skipped']])))],
    ['only one of that name in another file ran', run('forky', 0, otherFile)],
    ['another of that name failed', run('forky', 1, twice)],
    [
      'something failed outside',
      run('forky', 1, good, { outside: [{ file: '/thaw/test/x.test.ts', message: 'a hook' }] }),
    ],
    ['nobody could say what failed outside', run('forky', 0, good, { outside: undefined })],
    ['the node failed', run('forky', 125, good)],
  ])('does not where %s', (_, attempt) => {
    expect(passedAgain(one, attempt)).toBe(false);
  });
});

describe('gain', () => {
  it('moves one case from failed to passed', () => {
    const one: Case = { run: 'forky', file: 'test/x.test.ts', name: 'a > b > fails 0' };
    expect(gain(one, run('forky', 1, failed(1)), run('forky', 0, good))).toEqual({ passed: 1, failed: -1 });
  });

  it('counts what a whole file adds to what had passed in it', () => {
    const one: Case = { run: 'forky', file: 'test/x.test.ts' };
    const full = report(
      file('test/x.test.ts', [
        ['works', 'passed'],
        ['too', 'passed'],
        ['three', 'passed'],
      ]),
    );
    const skipped = report(file('test/x.test.ts', [['works', 'passed'], ['too', 'skipped']], 'failed')); // biome-ignore format: a row
    expect(gain(one, run('forky', 1, skipped), run('forky', 0, full))).toEqual({ passed: 2, failed: -1 });
    expect(gain(one, run('forky', 1, failed(2)), run('forky', 0, full))).toEqual({ passed: 2, failed: -2 });
  });
});

describe('covers', () => {
  const failed: Case = { run: 'forky', file: 'test/x.test.ts', name: 'a > works' };

  it.each<[string, Case, boolean]>([
    ['the case', failed, true],
    ['its file', { run: 'forky', file: 'test/x.test.ts' }, true],
    ['another run of it', { ...failed, run: 'trixie' }, false],
    ['another file', { ...failed, file: 'test/y.test.ts' }, false],
    ['another case', { ...failed, name: 'a > fails' }, false],
  ])('knows whether a try of %s ran it', (_, tried, expected) => {
    expect(covers(tried, failed)).toBe(expected);
  });
});
