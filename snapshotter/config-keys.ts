/** The keys that a configuration may have, from its schema, and which of them somebody may have meant. Pure. */
import { z } from 'zod';

export interface ConfigKey {
  /** `*` where a table has names that the administrator chooses. */
  path: readonly string[];
  /** Undefined if there is none. */
  default: unknown;
}

interface JsonSchema {
  properties?: Record<string, JsonSchema>;
  additionalProperties?: JsonSchema | boolean;
  default?: unknown;
}

export function configKeys(schema: z.ZodType): ConfigKey[] {
  return keysBelow(z.toJSONSchema(schema, { io: 'input' }) as JsonSchema, []);
}

function keysBelow(schema: JsonSchema, path: readonly string[]): ConfigKey[] {
  const { properties, additionalProperties } = schema;
  const tables = Object.entries(properties ?? {});
  if (typeof additionalProperties === 'object') tables.push(['*', additionalProperties]);
  return tables.length === 0
    ? [{ path, default: schema.default }]
    : tables.flatMap(([name, below]) => keysBelow(below, [...path, name]));
}

/** The key that was probably meant: the same with another letter or two, or the same name in another table. */
export function nearestKey(
  unknown: readonly string[],
  keys: readonly Pick<ConfigKey, 'path'>[],
): string | undefined {
  const [nearest] = keys
    .map(({ path }) => {
      const named = path.map((name, at) => (name === '*' ? (unknown[at] ?? 'HOST') : name));
      const whole = editDistance(unknown.join('.'), named.join('.'));
      const last = editDistance(unknown.at(-1) ?? '', named.at(-1) ?? '');
      return { key: named.join('.'), distance: Math.min(whole, last), whole };
    })
    .sort((a, b) => a.distance - b.distance || a.whole - b.whole);
  const most = Math.max(1, Math.floor((unknown.at(-1) ?? '').length / 3));
  return nearest && nearest.distance <= most ? nearest.key : undefined;
}

/** Letters to put in, take out or change (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries())
      next.push(
        Math.min((next[j] ?? 0) + 1, (row[j + 1] ?? 0) + 1, (row[j] ?? 0) + (letter === other ? 0 : 1)),
      );
    row = next;
  }
  return row.at(-1) ?? 0;
}
