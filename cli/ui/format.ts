/** Numbers and tables as people read them. Pure. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** 1536 → "1.5 KiB". Three digits at most, as sizes are compared by eye. */
export function formatBytes(bytes: bigint | number): string {
  let value = Number(bytes);
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** 850 → "850 ms", 1234 → "1.2 s", 83000 → "1 min 23 s". */
export function formatMs(ms: number): string {
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** How many times smaller; "–" where there is nothing to compare. */
export function formatRatio(decoded: bigint | number, stored: bigint | number): string {
  const [from, to] = [Number(decoded), Number(stored)];
  return to === 0 || from === 0 ? '–' : `${(from / to).toFixed(2)}×`;
}

export function formatShare(part: bigint | number, whole: bigint | number): string {
  return Number(whole) === 0 ? '–' : `${((100 * Number(part)) / Number(whole)).toFixed(0)} %`;
}

/** "sha256:0123456789ab…": enough to tell two apart by eye. */
export function shortDigest(digest: string): string {
  const match = /^(sha256:[0-9a-f]{12})[0-9a-f]+$/.exec(digest);
  return match?.[1] === undefined ? digest : `${match[1]}…`;
}

/** Columns aligned on spaces; a column whose heading ends with ">" is aligned to the right. */
export function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const right = headings.map((heading) => heading.endsWith('>'));
  const lines = [headings.map((heading) => heading.replace(/>$/, '')), ...rows];
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  return lines.map((line) =>
    widths
      .map((width, column) => {
        const cell = line[column] ?? '';
        return right[column] ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd(),
  );
}

/** "name   value" lines with the values in one column. */
export function formatPairs(pairs: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(0, ...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${value}`.trimEnd());
}

/**
 * What came from an image or a daemon, made safe for a terminal: control characters would move its cursor or rewrite
 * what it shows.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must go
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, '?');
}
