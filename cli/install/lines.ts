/** How changes are shown, before and while they are made. Pure. */
import type { FileState } from './files.ts';
import type { Change } from './record.ts';

/** More lines than these are compared by nobody. */
const MOST_LINES = 4_000;

export function changeLines({ path, from, to }: Pick<Change, 'path' | 'from' | 'to'>): string[] {
  switch (to.kind) {
    case 'absent':
      return [`remove ${path}`];
    case 'link':
      return [`link ${path} -> ${to.target}`];
    case 'file':
      if (from.kind !== 'file') return [`write ${path}`];
      return [`change ${path}`, ...difference(from, to).map((line) => `    ${line}`)];
  }
}

type FileText = Extract<FileState, { kind: 'file' }>;

/** Lines that go (-) and come (+), in order. */
function difference(from: FileText, to: FileText): string[] {
  const [before, after] = [from.text.split('\n'), to.text.split('\n')];
  const mode = from.mode === to.mode ? [] : [`mode ${from.mode.toString(8)} -> ${to.mode.toString(8)}`];
  if (before.length > MOST_LINES || after.length > MOST_LINES) return [...mode, 'a large file'];
  return [...mode, ...changedLines(before, after)];
}

/** By the longest common subsequence. */
export function changedLines(before: readonly string[], after: readonly string[]): string[] {
  const width = after.length + 1;
  const longest = new Uint16Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i--)
    for (let j = after.length - 1; j >= 0; j--)
      longest[i * width + j] =
        before[i] === after[j]
          ? (longest[(i + 1) * width + j + 1] ?? 0) + 1
          : Math.max(longest[(i + 1) * width + j] ?? 0, longest[i * width + j + 1] ?? 0);
  const lines: string[] = [];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) [i, j] = [i + 1, j + 1];
    else if (
      j >= after.length ||
      (i < before.length && (longest[(i + 1) * width + j] ?? 0) >= (longest[i * width + j + 1] ?? 0))
    )
      lines.push(`- ${before[i++]}`);
    else lines.push(`+ ${after[j++]}`);
  }
  return lines;
}
