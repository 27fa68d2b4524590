/**
 * Changes to a TOML file that somebody else keeps: comments and order stay, and every line that is put in can be found and
 * taken out again, also after the file was changed by hand. Pure.
 */
import { isDeepStrictEqual } from 'node:util';
import { parse, stringify, type TomlTable, type TomlValue } from 'smol-toml';

/** At the end of a line that was put in. */
const MARK = '# thaw install';
/** In front of a line that one of ours stands for. */
const REPLACED = '# thaw uninstall: ';

export interface Edited {
  text: string;
  /** False where the file has no place for the lines, as with inline tables: then it was written anew, without comments. */
  isByLine: boolean;
}

/** Merges `from` into a copy of `into`, table by table; other values replace. */
export function mergeTables(into: TomlTable, from: TomlTable): TomlTable {
  const result: TomlTable = { ...into };
  for (const [key, value] of Object.entries(from)) {
    const present = result[key];
    result[key] = isTable(present) && isTable(value) ? mergeTables(present, value) : value;
  }
  return result;
}

export function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date);
}

/** `text` with these settings, which win. Unchanged where it has them all. Throws if `text` is no TOML. */
export function withSettings(text: string, settings: TomlTable): Edited {
  const present = parse(text);
  const wanted = mergeTables(present, settings);
  if (same(present, wanted)) return { text, isByLine: true };
  const edited = editLines(text, present, settings);
  return same(parsed(edited), wanted)
    ? { text: edited, isByLine: true }
    : { text: stringify(wanted), isByLine: false };
}

/** The text without what `withSettings` put in. */
export function withoutSettings(text: string): string {
  return text
    .split('\n')
    .filter((line) => !line.endsWith(MARK))
    .map((line) => (line.startsWith(REPLACED) ? line.slice(REPLACED.length) : line))
    .join('\n');
}

/** The parser's tables have no prototype, ours have. */
function same(
  left: TomlValue | readonly string[] | undefined,
  right: TomlValue | readonly string[] | undefined,
) {
  return isDeepStrictEqual(plain(left), plain(right));
}

function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([key, below]) => [key, plain(below)]));
}

function parsed(text: string): TomlTable | undefined {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

function editLines(text: string, present: TomlTable, settings: TomlTable): string {
  const lines = text === '' ? [] : text.replace(/\n$/, '').split('\n');
  const added: string[] = [];
  for (const { path, values } of tablesOf(settings)) {
    const changed = Object.entries(values).filter(
      ([key, value]) => !same(valueAt(present, [...path, key]), value),
    );
    if (changed.length === 0) continue;
    const section = sectionOf(lines, path);
    if (section === undefined) {
      added.push('', `[${path.map(quoted).join('.')}]`);
      added.push(...changed.map(([key, value]) => assignment(key, value)));
    } else for (const [key, value] of changed) assign(lines, section, key, value);
  }
  return [...lines, ...added.map(marked), ''].join('\n');
}

interface Table {
  path: readonly string[];
  values: TomlTable;
}

/** Each table that has values of its own, with these alone. */
function tablesOf(settings: TomlTable, path: readonly string[] = []): Table[] {
  const entries = Object.entries(settings);
  const values = Object.fromEntries(entries.filter(([, value]) => !isTable(value)));
  const below = entries.flatMap(([key, value]) => (isTable(value) ? tablesOf(value, [...path, key]) : []));
  return Object.keys(values).length > 0 ? [{ path, values }, ...below] : below;
}

interface Section {
  /** First line behind the header. */
  start: number;
  end: number;
}

function sectionOf(lines: readonly string[], path: readonly string[]): Section | undefined {
  const isHeader = (line: string) => /^\s*\[/.test(line) && !/^\s*\[[^\]]*,/.test(line);
  const header = path.length === 0 ? -1 : lines.findIndex((line) => same(headerOf(line), path));
  if (path.length > 0 && header === -1) return undefined;
  const next = lines.findIndex((line, at) => at > header && isHeader(line));
  return { start: header + 1, end: next === -1 ? lines.length : next };
}

/** `[a."b".c]` → a, b, c. Undefined for what is no header of a table. */
function headerOf(line: string): string[] | undefined {
  if (!/^\s*\[[^[]/.test(line)) return undefined;
  let table = parsed(line);
  const path: string[] = [];
  while (table !== undefined) {
    const [key, ...others] = Object.keys(table);
    if (key === undefined) return path;
    const value = table[key];
    if (others.length > 0 || !isTable(value)) return undefined;
    path.push(key);
    table = value;
  }
  return undefined;
}

function assign(lines: string[], { start, end }: Section, key: string, value: TomlValue): void {
  const here = lines.slice(start, end);
  const at = here.findIndex((line) => nameIn(line) === key);
  if (at === -1) {
    lines.splice(start, 0, marked(assignment(key, value)));
    return;
  }
  // An array may go on over several lines.
  let length = 1;
  while (at + length < here.length && parsed(here.slice(at, at + length).join('\n')) === undefined) length++;
  const before = here.slice(at, at + length);
  lines.splice(start + at, length, marked(assignment(key, value)), ...before.map((line) => REPLACED + line));
}

function nameIn(line: string): string | undefined {
  const name = /^\s*("[^"]*"|'[^']*'|[\w-]+)\s*=/.exec(line)?.[1];
  return name?.replace(/^["']|["']$/g, '');
}

function assignment(key: string, value: TomlValue): string {
  return stringify({ [key]: value }).trimEnd();
}

function quoted(name: string): string {
  return /^[\w-]+$/.test(name) ? name : `"${name}"`;
}

function marked(line: string): string {
  return line === '' ? MARK : `${line} ${MARK}`;
}

function valueAt(table: TomlTable, path: readonly string[]): TomlValue | undefined {
  let value: TomlValue | undefined = table;
  for (const key of path) value = isTable(value) ? value[key] : undefined;
  return value;
}
