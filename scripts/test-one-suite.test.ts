import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeShared, leftToOther, ONE_SUITE } from './test-one-suite.ts';

describe('files that run under one containerd', () => {
  it('are there, and run in one node each', () => {
    for (const file of [...ONE_SUITE.forky, ...ONE_SUITE.trixie])
      expect(existsSync(join(import.meta.dirname, '..', file)), file).toBe(true);
    for (const file of ONE_SUITE.forky) {
      expect(leftToOther('trixie', true)).toContain(file);
      expect(leftToOther('forky', true)).not.toContain(file);
    }
    for (const file of ONE_SUITE.trixie) {
      expect(leftToOther('forky', true)).toContain(file);
      expect(leftToOther('trixie', true)).not.toContain(file);
    }
  });

  it('run in every node where there is no other, or where all is to run', () => {
    for (const node of ['forky', 'trixie', undefined]) expect(leftToOther(node, false)).toEqual([]);
    expect(leftToOther(undefined, true)).toEqual([]);
  });

  it('are named in the summary', () => {
    expect(describeShared()).toEqual([
      expect.stringMatching(/^short form: .*\blazy-restore\b.* under containerd 2\.1 only$/),
      expect.stringMatching(/^short form: .*\bsnapshotter-crash\b.* under containerd 1\.7 only$/),
    ]);
  });
});
