/**
 * containerd's filter language over snapshot infos. Called by the gRPC service and by nothing else.
 * `scanner.ts` makes tokens, `parse.ts` selectors, `pattern.ts` matches regular expressions, and this file the rest.
 */
import type { SnapshotInfo } from '../store/snapshot-info.ts';
import { parseFilter, type Selector } from './parse.ts';

export type Matcher = (info: SnapshotInfo) => boolean;

type CompilePattern = (source: string) => (value: string) => boolean;

/** Filters are alternatives. No filter, and the empty one, match everything. Throws FilterSyntaxError. */
export async function compileFilters(filters: readonly string[]): Promise<Matcher> {
  if (filters.length === 0) return () => true;
  const parsed = filters.map(parseFilter);
  // A hundred kilobytes that hardly any filter needs.
  const { compilePattern } = parsed.flat().some(({ operator }) => operator === '~=')
    ? await import('./pattern.ts')
    : { compilePattern: () => () => false };
  const alternatives = parsed.map((selectors) =>
    selectors.map((each) => compileSelector(each, compilePattern)),
  );
  return (info) => alternatives.some((selectors) => selectors.every((matches) => matches(info)));
}

function compileSelector({ fieldPath, operator, value }: Selector, compilePattern: CompilePattern): Matcher {
  switch (operator) {
    case 'present':
      return (info) => field(info, fieldPath) !== undefined;
    case '==':
      return (info) => field(info, fieldPath) === value;
    case '!=':
      // An absent field differs from every value but the empty one, as in containerd.
      return (info) => (field(info, fieldPath) ?? '') !== value;
    case '~=': {
      const matches = compilePattern(value);
      // An absent field is as an empty one, as in containerd.
      return (info) => matches(field(info, fieldPath) ?? '');
    }
  }
}

function field(info: SnapshotInfo, path: readonly string[]): string | undefined {
  switch (path[0]) {
    case 'name':
      return info.name;
    case 'parent':
      return info.parent;
    case 'kind':
      return info.kind;
    case 'labels': {
      const key = path.slice(1).join('.');
      return Object.hasOwn(info.labels, key) ? info.labels[key] : undefined;
    }
    default:
      return undefined;
  }
}
