/** Command lines in the documents are ones that the program takes. */
import { expect, it } from 'vitest';
import { docCommands } from '../scripts/docs-commands.ts';
import type { Handlers } from './commands/handlers.ts';
import { createProgram } from './program.ts';

const lines = docCommands()
  .map(({ line }) => line)
  .filter((line) => /^(\S*\/)?thaw /.test(line));

it('are there', () => expect(lines.length).toBeGreaterThan(5));

it.each([...new Set(lines)])('%s', async (line) => {
  const called: string[] = [];
  const handlers = new Proxy({} as Handlers, {
    get: (_, name: string) => async () => void called.push(name),
  });
  let said = '';
  const write = {
    out: () => {},
    err: (text: string) => {
      said += text;
    },
  };
  const [, ...words] = line.split(/\s+/);
  await createProgram({ version: '0', handlers, write }).parseAsync(['node', 'thaw', ...words]);
  expect(said).toBe('');
  expect(called).toEqual([words[0]]);
});
