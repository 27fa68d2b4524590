import { expect, it } from 'vitest';
import { Code } from '../proto/status.ts';
import type { Spawner } from './process/spawn.ts';
import { Runc } from './runc/runc.ts';
import { nodeVersions } from './versions.ts';

const ended = { code: 0, signal: undefined, timedOut: false, stdout: '' };

function runcWith(spawner: Spawner): Runc {
  return new Runc({ binary: 'runc', root: '/r', systemdCgroup: false, env: {} }, spawner);
}

it('asks CRIU and runc', async () => {
  const runc = runcWith({
    run: async (file) => ({
      ...ended,
      stdout: file === 'criu' ? 'Version: 4.2.1\n' : 'runc version 1.3.6\n',
    }),
  });
  expect(await nodeVersions(runc)).toEqual({ criu: '4.2.1', runc: '1.3.6' });
});

it('says which program is missing, and what to do', async () => {
  const missing = (name: string): Spawner => ({
    run: async (file) => {
      if (file === name) throw Object.assign(new Error(`spawn ${name} ENOENT`), { code: 'ENOENT' });
      return { ...ended, stdout: 'Version: 4.2\nrunc version 1.3\n' };
    },
  });
  await expect(nodeVersions(runcWith(missing('criu')))).rejects.toMatchObject({
    code: Code.failedPrecondition,
    message: expect.stringMatching(/Cannot find CRIU.*install/),
  });
  await expect(nodeVersions(runcWith(missing('runc')))).rejects.toMatchObject({
    code: Code.failedPrecondition,
    message: expect.stringMatching(/runc.*install/),
  });
});

it('does not take a CRIU that does not run for one that does', async () => {
  const runc = runcWith({
    run: async (file) =>
      file === 'criu' ? { ...ended, code: 127 } : { ...ended, stdout: 'runc version 1.3\n' },
  });
  await expect(nodeVersions(runc)).rejects.toThrow(/CRIU on this node does not run/);
});
