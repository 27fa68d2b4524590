/** What a pod's annotations say about its restore. Pure. */
import { annotationOf } from '../annotation.ts';
import type { OciSpec } from '../task/oci-spec.ts';

/** auto (default), require (an error instead of a cold start), off. */
const POLICY = 'thaw.dev/restore';
/** Differences that the pod accepts: words separated by commas, as `FORMS` lists them. */
const EXCEPT = 'thaw.dev/restore-except';
const FORMS = 'args, cwd, env:NAME (with * for any characters), file:PATH, hooks, kernel';

export type Policy = 'auto' | 'require' | 'off';

export interface Exceptions {
  args: boolean;
  cwd: boolean;
  kernel: boolean;
  /** Hooks of the pod that a restore does not run. */
  hooks: boolean;
  /** Whether a difference in that environment variable is accepted. */
  env(name: string): boolean;
  /** The same for what a config map or secret holds that is mounted there. */
  file(path: string): boolean;
}

export const NO_EXCEPTIONS: Exceptions = {
  args: false,
  cwd: false,
  kernel: false,
  hooks: false,
  env: () => false,
  file: () => false,
};

export interface Wishes {
  policy: Policy;
  except: Exceptions;
  /** Annotations that cannot be understood: in the user's words, and each a reason not to restore. */
  problems: string[];
}

export function wishesOf({ annotations = {} }: Pick<OciSpec, 'annotations'>): Wishes {
  const problems: string[] = [];
  const policy = readPolicy(annotationOf(annotations, POLICY), problems);
  return { policy, except: readExceptions(annotationOf(annotations, EXCEPT), problems), problems };
}

function readPolicy(found: readonly [string, string] | undefined, problems: string[]): Policy {
  if (!found) return 'auto';
  const [name, value] = found;
  switch (value) {
    case 'auto':
    case 'require':
    case 'off':
      return value;
    default:
      problems.push(`the annotation ${name} is "${value}"; use auto, require or off`);
      return 'auto';
  }
}

function readExceptions(found: readonly [string, string] | undefined, problems: string[]): Exceptions {
  if (!found) return NO_EXCEPTIONS;
  const [annotation, value] = found;
  const words = new Set<string>();
  const patterns: Record<'env' | 'file', RegExp[]> = { env: [], file: [] };
  for (const word of value.split(',').map((part) => part.trim())) {
    const [, kind, pattern] = /^(env|file):(.+)$/.exec(word) ?? [];
    if ((kind === 'env' || kind === 'file') && pattern) patterns[kind].push(wildcard(pattern));
    else if (['args', 'cwd', 'kernel', 'hooks'].includes(word)) words.add(word);
    else if (word !== '') problems.push(`the annotation ${annotation} has "${word}"; known are ${FORMS}`);
  }
  const accepts = (kind: 'env' | 'file') => (name: string) =>
    patterns[kind].some((pattern) => pattern.test(name));
  return {
    args: words.has('args'),
    cwd: words.has('cwd'),
    kernel: words.has('kernel'),
    hooks: words.has('hooks'),
    env: accepts('env'),
    file: accepts('file'),
  };
}

function wildcard(pattern: string): RegExp {
  const parts = pattern.split('*').map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`, 's');
}
