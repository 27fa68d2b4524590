import { describe, expect, it } from 'vitest';
import { launchOf } from '../../checkpoint/launch.ts';
import { launchDifferences } from './launch-differences.ts';
import { wishesOf } from './policy.ts';

const spec = {
  process: {
    args: ['python3', '/server.py'],
    cwd: '/srv',
    user: { uid: 1000, gid: 100, additionalGids: [30, 20, 20] },
    env: ['PATH=/bin', 'MODEL=a', 'HOSTNAME=pod-1'],
  },
};

describe('launchDifferences', () => {
  const saved = launchOf(spec);
  it('is empty for another host name', () => {
    const asked = launchOf({ process: { ...spec.process, env: ['PATH=/bin', 'MODEL=a', 'HOSTNAME=pod-2'] } });
    expect(launchDifferences(saved, asked)).toEqual([]);
  });
  it.each([
    [{ args: ['python3', '/server.py', '-v'] }, /command line was .*now .*-v/],
    [{ cwd: '/' }, /working directory was \/srv, now \//],
    [{ user: { uid: 0, gid: 100, additionalGids: [20, 30] } }, /user was 1000:100, now 0:100/],
    [{ user: { uid: 1000, gid: 100 } }, /additional groups was \[20,30\], now \[\]/],
    [{ env: ['PATH=/bin', 'MODEL=b'] }, /environment variable MODEL has another value now/],
    [{ env: ['PATH=/bin'] }, /environment variable MODEL is not set now/],
    [{ env: ['PATH=/bin', 'MODEL=a', 'DEBUG=1'] }, /environment variable DEBUG is new/],
  ])('names %j', (change, message) => {
    const differences = launchDifferences(saved, launchOf({ process: { ...spec.process, ...change } }));
    expect(differences).toHaveLength(1);
    expect(differences[0]).toMatch(message);
  });
  it('leaves out what the pod accepts', () => {
    const asked = launchOf({
      process: { ...spec.process, cwd: '/', args: ['x'], env: ['PATH=/x', 'MODEL=b', 'DEBUG=1'] },
    });
    const annotations = { 'thaw.dev/restore-except': 'args,cwd,env:MODEL,env:DEB*' };
    const { except } = wishesOf({ annotations });
    expect(launchDifferences(saved, asked, except)).toEqual([
      'environment variable PATH has another value now',
    ]);
  });
  it('is empty where each has the name and the uid of its own pod, and nowhere else', () => {
    const pod = (name: string, env: Record<string, string>) =>
      launchOf({
        annotations: {
          'io.kubernetes.cri.sandbox-name': name,
          'io.kubernetes.cri.sandbox-uid': `uid-of-${name}`,
        },
        process: { env: Object.entries(env).map(([key, value]) => `${key}=${value}`) },
      });
    const was = pod('llm-0', { POD: 'llm-0', POD_UID: 'uid-of-llm-0' });
    expect(launchDifferences(was, pod('llm-1', { POD: 'llm-1', POD_UID: 'uid-of-llm-1' }))).toEqual([]);
    // The name of another one, and one kind in the place of the other.
    for (const env of [
      { POD: 'llm-7', POD_UID: 'uid-of-llm-1' },
      { POD: 'uid-of-llm-1', POD_UID: 'uid-of-llm-1' },
    ])
      expect(launchDifferences(was, pod('llm-1', env))).toEqual([
        'environment variable POD has another value now',
      ]);
    expect(launchDifferences(was, pod('llm-1', { POD: 'llm-1' }))).toEqual([
      'environment variable POD_UID is not set now',
    ]);
  });
  it('names a config map that has changed, not one that is not mounted', () => {
    const files = (digest: string) => ({ ...saved, files: [{ destination: '/etc/conf', digest }] });
    expect(launchDifferences(files('a'), files('b'))).toEqual([
      'the config map or secret at /etc/conf has other content now',
    ]);
    expect(launchDifferences(files('a'), files('a'))).toEqual([]);
    expect(launchDifferences(files('a'), saved)).toEqual([]);
    const { except } = wishesOf({ annotations: { 'thaw.dev/restore-except': 'file:/etc/conf' } });
    expect(launchDifferences(files('a'), files('b'), except)).toEqual([]);
  });
  it('never shows a value of the environment', () => {
    const asked = launchOf({ process: { ...spec.process, env: ['PATH=/bin', 'MODEL=s3cret'] } });
    expect(launchDifferences(saved, asked).join()).not.toContain('s3cret');
  });
});
