/**
 * containerd's filter language over snapshot infos. Called by the gRPC service and by nothing else.
 * `scanner.ts` makes tokens, `parse.ts` selectors, and this file matches them.
 */
import type { SnapshotInfo } from '../store/snapshot-info.ts';
import { parseFilter, type Selector } from './parse.ts';

export type Matcher = (info: SnapshotInfo) => boolean;

/** Filters are alternatives. No filter, and the empty one, match everything. Throws FilterSyntaxError. */
export function compileFilters(filters: readonly string[]): Matcher {
  if (filters.length === 0) return () => true;
  const alternatives = filters.map((filter) => parseFilter(filter).map(compileSelector));
  return (info) => alternatives.some((selectors) => selectors.every((matches) => matches(info)));
}

function compileSelector({ fieldPath, operator, value }: Selector): Matcher {
  switch (operator) {
    case 'present':
      return (info) => field(info, fieldPath) !== undefined;
    case '==':
      return (info) => field(info, fieldPath) === value;
    case '!=':
      // An absent field differs from every value but the empty one, as in containerd.
      return (info) => (field(info, fieldPath) ?? '') !== value;
    case '~=': {
      const pattern = compilePattern(value);
      // An absent field is as an empty one, as in containerd.
      return (info) => pattern?.test(field(info, fieldPath) ?? '') ?? false;
    }
  }
}

/** containerd logs a broken expression and matches nothing. */
function compilePattern(source: string): RegExp | undefined {
  try {
    return new RegExp(source, 'u');
  } catch {
    return undefined;
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
