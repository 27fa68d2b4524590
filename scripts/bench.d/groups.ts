import { Code } from '../../proto/status.ts';
import { BenchError } from './error.ts';

/** The groups of measurements that `--only` names; all when it is absent. */
export function choose<G extends { name: string }>(
  groups: readonly G[],
  only: readonly string[] | undefined,
): readonly G[] {
  if (only === undefined) return groups;
  const names = groups.map(({ name }) => name);
  const unknown = only.find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw new BenchError(Code.invalidArgument, `Unknown measurement '${unknown}': use ${names.join(', ')}`);
  return groups.filter(({ name }) => only.includes(name));
}
