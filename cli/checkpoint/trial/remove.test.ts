import { describe, expect, it } from 'vitest';
import { Code } from '../../../proto/status.ts';
import type { Containerd } from '../../containerd/index.ts';
import { CliError } from '../../error.ts';
import { removeTrial } from './remove.ts';

function fake(fail: Record<string, Code> = {}) {
  const calls: string[] = [];
  const does = (name: string) => async () => {
    calls.push(name);
    const code = fail[name];
    if (code !== undefined) throw new CliError(code, `cannot ${name}`);
  };
  const containerd = {
    tasks: { kill: does('kill'), wait: does('wait'), delete: does('delete') },
    containers: { remove: does('container') },
    snapshots: () => ({ remove: does('snapshot') }),
  } as unknown as Containerd;
  return { calls, remove: () => removeTrial(containerd, 'overlayfs', 't') };
}

describe('a trial is removed', () => {
  it('in the order in which its parts need each other', async () => {
    const { calls, remove } = fake();
    await remove();
    expect(calls).toEqual(['kill', 'wait', 'delete', 'container', 'snapshot']);
  });

  it.each([
    ['that has ended', { kill: Code.notFound }, ['kill', 'wait', 'delete', 'container', 'snapshot']],
    [
      'that was never created',
      { kill: Code.notFound, wait: Code.notFound },
      ['kill', 'wait', 'container', 'snapshot'],
    ],
    [
      'of which there is nothing',
      { kill: Code.notFound, wait: Code.notFound, container: Code.notFound, snapshot: Code.notFound },
      ['kill', 'wait', 'container', 'snapshot'],
    ],
  ])('%s', async (_, fail, expected) => {
    const { calls, remove } = fake(fail);
    await remove();
    expect(calls).toEqual(expected);
  });

  it('or it is said why not', async () => {
    await expect(fake({ kill: Code.unavailable }).remove()).rejects.toThrow('cannot kill');
    await expect(fake({ snapshot: Code.internal }).remove()).rejects.toThrow('cannot snapshot');
  });
});
