/** No command in the documents without a test that runs it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { docCommands } from './docs-commands.ts';

const root = join(import.meta.dirname, '..');
const commands = docCommands();

/** Where lines that begin so are run, and what that file must have of them. */
const RUN: readonly [RegExp, string, RegExp][] = [
  // Each is parsed by the program itself; what they do is tested where the command is.
  [/^(\S*\/)?thaw /, 'cli/docs.test.ts', /docCommands/],
  // With a fake API server.
  [/^kubectl /, 'test/host/kubectl.test.ts', /docCommands/],
  [/^scripts\/package$/, 'test/host/install.test.ts', /scripts\/package/],
  [/^tar -xzf thaw-/, 'test/host/install.test.ts', /tar -xzf/],
];

it('are found', () => {
  expect(commands.length).toBeGreaterThan(20);
  expect(commands.map(({ line }) => line)).toContain('kubectl drain NODE --ignore-daemonsets');
});

it.each(commands)('$document: $line', ({ line }) => {
  const [, file, text] = RUN.find(([pattern]) => pattern.test(line)) ?? [];
  expect(file, 'a test that runs it').toBeDefined();
  expect(readFileSync(join(root, file ?? ''), 'utf8')).toMatch(text ?? /^$/);
});
