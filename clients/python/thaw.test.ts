import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

it('the client for Python passes its own tests', async () => {
  const options = {
    cwd: import.meta.dirname,
    timeout: 50_000,
    env: { PYTHONDONTWRITEBYTECODE: '1', PATH: '/usr/bin:/bin' },
  };
  const { stderr } = await promisify(execFile)('/usr/bin/python3', ['-m', 'unittest'], options);
  expect(stderr).toMatch(/^Ran [1-9]\d* tests[\s\S]*\nOK\n$/m);
});
