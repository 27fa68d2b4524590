/** Command lines in the documents are ones that the program takes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Handlers } from './commands/handlers.ts';
import { createProgram } from './program.ts';

const DOCUMENTS = ['docs/operations.md'];

const lines = DOCUMENTS.flatMap((path) =>
  [...readFileSync(join(import.meta.dirname, '..', path), 'utf8').matchAll(/^```sh\n(.*?)^```/gms)]
    .flatMap(([, block = '']) => block.split('\n'))
    .map((line) => line.replace(/\s+#.*$/, '').trim())
    .filter((line) => /^(\S*\/)?thaw /.test(line)),
);

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
