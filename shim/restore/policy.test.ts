import { describe, expect, it } from 'vitest';
import { wishesOf } from './policy.ts';

const named = { 'io.kubernetes.cri.container-name': 'server' };

describe('wishesOf', () => {
  it.each([
    [undefined, 'auto'],
    [{ 'thaw.dev/restore': 'require' }, 'require'],
    [{ 'thaw.dev/restore': 'off' }, 'off'],
    [{ ...named, 'thaw.dev/restore': 'off', 'thaw.dev/restore.server': 'require' }, 'require'],
    [{ ...named, 'thaw.dev/restore.sidecar': 'off' }, 'auto'],
  ] as const)('%j is %s', (annotations, policy) => {
    expect(wishesOf(annotations ? { annotations } : {})).toMatchObject({ policy, problems: [] });
  });

  it('names words that it does not know, every one of them', () => {
    const annotations = { 'thaw.dev/restore': 'always', 'thaw.dev/restore-except': 'args, user, env:' };
    expect(wishesOf({ annotations }).problems).toEqual([
      'the annotation thaw.dev/restore is "always"; use auto, require or off',
      expect.stringMatching(/has "user"; known are args, cwd, env:NAME/),
      expect.stringMatching(/has "env:"/),
    ]);
  });

  it('accepts the differences that are listed, and no others', () => {
    const { except, problems } = wishesOf({
      annotations: { 'thaw.dev/restore-except': 'args, env:POD_*, env:MODE,file:/etc/conf, hooks' },
    });
    expect(problems).toEqual([]);
    expect(except).toMatchObject({ args: true, cwd: false, kernel: false, hooks: true });
    expect(['POD_IP', 'MODE', 'MODES', 'A.MODE', 'XPOD_IP'].filter(except.env)).toEqual(['POD_IP', 'MODE']);
    expect(['/etc/conf', '/etc/conf/a', '/etcXconf'].filter(except.file)).toEqual(['/etc/conf']);
  });
});
