/**
 * The launch fingerprint: what a container was asked to run. Taken at a checkpoint, compared at a restore, because a
 * changed argument must never be ignored silently.
 */
import type { Launch } from '../checkpoint/facts.ts';
import { type Exceptions, NO_EXCEPTIONS } from './restore/policy.ts';
import type { OciSpec } from './task/oci-spec.ts';

type MountedFiles = NonNullable<Launch['files']>;

/**
 * Variables that the platform sets anew for each pod: the host name, and the addresses of services (the kubelet's
 * docker-link form, NAME_SERVICE_HOST, NAME_SERVICE_PORT…, NAME_PORT…).
 */
const PLATFORM_ENV =
  /^(HOSTNAME|KUBERNETES_.*|[A-Z0-9_]+_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|[A-Z0-9_]+_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;

const NAMES_LINK = /_PORT(_\d+_(TCP|UDP|SCTP))?$/;
/** NAME_SERVICE_PORT and NAME_PORT_80_TCP_PORT: numbers. */
const NOT_LINK = /_SERVICE_|_PORT_\d+_(TCP|UDP|SCTP)_PORT$/;

/** Value of NAME_PORT and NAME_PORT_80_TCP: an URL. A user's own FOO_PORT=8080 is not the platform's. */
const LINK_URL = /^(tcp|udp|sctp):\/\/[^/]+:\d+$/;

function setByPlatform(variable: string): boolean {
  const at = variable.indexOf('=');
  const name = at < 0 ? variable : variable.slice(0, at);
  if (!PLATFORM_ENV.test(name)) return false;
  if (NAMES_LINK.test(name) && !NOT_LINK.test(name)) {
    return LINK_URL.test(variable.slice(at + 1));
  }
  return true;
}

/** Without what is mounted: see mounted-files.ts. */
export function launchOf(spec: OciSpec): Launch {
  const process = spec.process ?? {};
  return {
    args: [...(process.args ?? [])],
    cwd: process.cwd ?? '/',
    uid: process.user?.uid ?? 0,
    gid: process.user?.gid ?? 0,
    additionalGids: [...new Set(process.user?.additionalGids ?? [])].sort((a, b) => a - b),
    env: [...new Set((process.env ?? []).filter((variable) => !setByPlatform(variable)))].sort(),
  };
}

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
    ...envDifferences(saved.env, asked.env, except),
    ...fileDifferences(saved.files ?? [], asked.files ?? [], except),
  ];
}

/** Names only: a value may be a secret. */
function envDifferences(saved: readonly string[], asked: readonly string[], except: Exceptions): string[] {
  const was = toMap(saved);
  const is = toMap(asked);
  const out: string[] = [];
  for (const [name, value] of was) {
    if (except.env(name)) continue;
    if (!is.has(name)) out.push(`environment variable ${name} is not set now`);
    else if (is.get(name) !== value) out.push(`environment variable ${name} has another value now`);
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

function toMap(env: readonly string[]): Map<string, string> {
  return new Map(
    env.map((variable) => {
      const at = variable.indexOf('=');
      return at < 0 ? [variable, ''] : [variable.slice(0, at), variable.slice(at + 1)];
    }),
  );
}
