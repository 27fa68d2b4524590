/** JSON for programs: 64-bit values as numbers, as all of ours are below 2^53; indented for people who look at it. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? Number(item) : item), 2);
}
