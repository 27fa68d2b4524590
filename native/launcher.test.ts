import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from './testing.ts';

const built = join(import.meta.dirname, '../build/containerd-shim-thaw-v2');

/** An install tree whose Node prints what it was given. */
function install(): { tree: string; launcher: string } {
  const tree = join(temporaryFolder(), 'opt/thaw/1.2.3');
  mkdirSync(join(tree, 'bin'), { recursive: true });
  mkdirSync(join(tree, 'lib'));
  const launcher = join(tree, 'bin/containerd-shim-thaw-v2');
  copyFileSync(built, launcher);
  const node = join(tree, 'bin/node');
  writeFileSync(
    node,
    `#!/bin/sh
for word; do printf '%s\\n' "$word"; done
printf 'cache=%s\\n' "$NODE_COMPILE_CACHE"
cat
exit 3
`,
  );
  chmodSync(node, 0o755);
  writeFileSync(join(tree, 'lib/shim.cjs'), '');
  return { tree, launcher };
}

function run(command: string, args: string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    input: 'options',
    timeout: 5000,
    env: { PATH: '/usr/bin:/bin', ...env },
  });
  return { status, stdout, stderr };
}

test('runs the Node and the program of its own tree with all arguments', () => {
  const { tree, launcher } = install();
  const args = ['-namespace', 'k8s.io', '-id', 'a b', '-publish-binary', '', 'start'];
  const { status, stdout, stderr } = run(launcher, args);
  const lines = stdout.split('\n');
  const at = lines.indexOf(join(tree, 'lib/shim.cjs'));
  expect(lines.slice(0, at).every((flag) => flag.startsWith('--'))).toBe(true);
  expect(lines.slice(at + 1)).toEqual([...args, `cache=${join(tree, 'lib/cache')}`, 'options']);
  expect(status).toBe(3);
  expect(stderr).toBe('');
});

test('finds its tree when it is reached through a link', () => {
  const { tree, launcher } = install();
  const link = join(temporaryFolder(), 'containerd-shim-thaw-v2');
  symlinkSync(launcher, link);
  expect(run(link, ['start']).stdout).toContain(`${join(tree, 'lib/shim.cjs')}\nstart\n`);
});

test("leaves the administrator's own compile cache alone", () => {
  const { launcher } = install();
  expect(run(launcher, ['start'], { NODE_COMPILE_CACHE: '/elsewhere' }).stdout).toContain(
    'cache=/elsewhere\n',
  );
});

test.each([
  [['-v']],
  [['-version']],
  [['--version']],
  [['-namespace', 'k8s.io', '-debug', '-v']],
  [['-namespace=k8s.io', '-v', 'start']],
])('answers %j itself, without Node', (args) => {
  const { tree, launcher } = install();
  rmSync(join(tree, 'bin/node'));
  const { status, stdout } = run(launcher, args);
  expect(stdout).toMatch(/^containerd-shim-thaw-v2:\n {2}Version: {2}\d+\.\d+\.\d+\n$/);
  expect(status).toBe(0);
});

test.each([[['-id', '-v', 'start']], [['start', '-v']], [['--', '-v']], [['-', '-v']]])(
  'takes %j for no question about the version',
  (args) => {
    expect(run(install().launcher, args).status).toBe(3);
  },
);

test('says what is missing and what to do', () => {
  const { tree, launcher } = install();
  rmSync(join(tree, 'bin/node'));
  expect(run(launcher, ['start'])).toEqual({
    status: 1,
    stdout: '',
    stderr: `containerd-shim-thaw-v2: Cannot run ${tree}/bin/node: No such file or directory; install thaw again, its files belong together\n`,
  });
  rmSync(join(tree, 'lib/shim.cjs'));
  expect(run(launcher, ['start']).stderr).toContain(
    `Cannot read ${tree}/lib/shim.cjs: No such file or directory`,
  );
});
