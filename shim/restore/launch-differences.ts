/** What a pod asks for other than what was saved, because a changed argument must never be ignored silently. */
import type { Launch } from '../../checkpoint/facts.ts';
import { type Exceptions, NO_EXCEPTIONS } from './policy.ts';

type MountedFiles = NonNullable<Launch['files']>;

/** One sentence for each difference, in the user's words; empty if the pod asks for what was saved, or accepts the rest. */
export function launchDifferences(
  saved: Launch,
  asked: Launch,
  except: Exceptions = NO_EXCEPTIONS,
): string[] {
  const differences: string[] = [];
  const compare = (what: string, was: string, is: string) => {
    if (was !== is) differences.push(`${what} was ${was}, now ${is}`);
  };
  if (!except.args) compare('command line', JSON.stringify(saved.args), JSON.stringify(asked.args));
  if (!except.cwd) compare('working directory', saved.cwd, asked.cwd);
  compare('user', `${saved.uid}:${saved.gid}`, `${asked.uid}:${asked.gid}`);
  compare('additional groups', JSON.stringify(saved.additionalGids), JSON.stringify(asked.additionalGids));
  return [
    ...differences,
    ...envDifferences(saved, asked, except),
    ...fileDifferences(saved.files ?? [], asked.files ?? [], except),
  ];
}

/** Names only: a value may be a secret. */
function envDifferences(saved: Launch, asked: Launch, except: Exceptions): string[] {
  const was = toMap(saved.env);
  const is = toMap(asked.env);
  const ownThen = fieldsOf(saved);
  const ownNow = fieldsOf(asked);
  const out: string[] = [];
  for (const [name, value] of was) {
    if (except.env(name)) continue;
    if (!is.has(name)) out.push(`environment variable ${name} is not set now`);
    else if (is.get(name) === value) continue;
    // Each of them its own pod's, as a host name is.
    else if (ownThen.has(name) && ownThen.get(name) === ownNow.get(name)) continue;
    else out.push(`environment variable ${name} has another value now`);
  }
  for (const name of is.keys())
    if (!was.has(name) && !except.env(name)) out.push(`environment variable ${name} is new`);
  return out;
}

/** One that is missing on one side is another mount, which is named as such. */
function fileDifferences(saved: MountedFiles, asked: MountedFiles, except: Exceptions): string[] {
  const is = new Map(asked.map(({ destination, digest }) => [destination, digest]));
  return saved
    .filter(({ destination, digest }) => (is.get(destination) ?? digest) !== digest)
    .filter(({ destination }) => !except.file(destination))
    .map(({ destination }) => `the config map or secret at ${destination} has other content now`);
}

/** By variable. */
function fieldsOf({ ofPod = [] }: Launch): ReadonlyMap<string, string> {
  return new Map(ofPod.map(({ variable, field }) => [variable, field]));
}

function toMap(env: readonly string[]): Map<string, string> {
  return new Map(
    env.map((variable) => {
      const at = variable.indexOf('=');
      return at < 0 ? [variable, ''] : [variable.slice(0, at), variable.slice(at + 1)];
    }),
  );
}
