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
  // The shell's part goes to the shell.
  const [, ...words] = line.split(/\s+/).filter((word) => !word.startsWith('>'));
  await createProgram({ version: '0', handlers, write }).parseAsync(['node', 'thaw', ...words]);
  expect(said).toBe('');
  const [handler, ...others] = called;
  expect(handler).toBe(words.includes('--lazy') && words[0] === 'convert' ? 'convertLazy' : words[0]);
  expect(others).toEqual([]);
});
