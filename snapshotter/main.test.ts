import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'thaw-check-'));
});
afterEach(() => rm(dir, { recursive: true }));

async function check(text: string): Promise<{ code: number | string; stdout: string; stderr: string }> {
  const file = join(dir, 'config.toml');
  await writeFile(file, text);
  const args = [join(import.meta.dirname, 'main.ts'), '--check', '--config', file];
  return new Promise((resolve) => {
    execFile(process.execPath, args, { timeout: 60_000 }, (error, stdout, stderr) =>
      resolve({ code: error?.code ?? 0, stdout, stderr }),
    );
  });
}

it('--check prints what the configuration comes to, or says what is wrong', async () => {
  const good = await check(`root = "${dir}"\n`);
  expect(good.code).toBe(0);
  expect(JSON.parse(good.stdout)).toMatchObject({ root: dir, state: '/run/thaw', fetch: { connections: 8 } });
  const bad = await check('rot = "/a"\n');
  expect(bad).toEqual({
    code: 1,
    stdout: '',
    stderr: 'thaw-snapshotter: Cannot use the configuration: unknown key "rot" (did you mean "root"?)\n',
  });
});
