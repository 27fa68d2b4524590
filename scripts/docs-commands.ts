/** The commands that the documents tell somebody to run. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const DOCUMENTS = [
  'README.md',
  'deploy/README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

export interface DocCommand {
  document: string;
  line: string;
}

/** Lines of blocks of shell, and of other text what begins with a program that is asked for by name. */
export function docCommands(): DocCommand[] {
  return DOCUMENTS.flatMap((document) => {
    const text = readFileSync(join(root, document), 'utf8');
    const blocks = [...text.matchAll(/^```(\w*)\n(.*?)^```/gms)].flatMap(([, language, block = '']) => {
      const lines = block.split('\n').map((line) => line.replace(/\s+#.*$/, '').trimEnd());
      if (language === 'sh') return lines.filter((line) => line.trim() !== '' && !line.startsWith('#'));
      return language === ''
        ? lines.filter((line) => /^(thaw|kubectl|systemctl|scripts\/\S+) /.test(line))
        : [];
    });
    // Without an object it is the name of a command, and not one.
    const inline = [...text.matchAll(/`((?:kubectl|systemctl) [^`]*[^`\s])`/g)]
      .map(([, line = '']) => line.replaceAll(/\s+/g, ' '))
      .filter((line) => !/ -[fk]$/.test(line) && line.split(' ').length > 3);
    return [...blocks, ...inline].map((line) => ({ document, line: line.trim() }));
  });
}
