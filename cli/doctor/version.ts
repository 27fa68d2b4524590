/** "2.1.9-1+deb", "v1.7.24", "6.18.44-fc": the numbers that they begin with. */
export function parseVersion(text: string): readonly number[] {
  return (/\d+(\.\d+)*/.exec(text)?.[0] ?? '').split('.').map(Number);
}

export function isAtLeast(version: string, ...least: number[]): boolean {
  const parts = parseVersion(version);
  for (const [at, wanted] of least.entries()) {
    const part = parts[at] ?? 0;
    if (part !== wanted) return part > wanted;
  }
  return true;
}
