/**
 * The launch fingerprint: what a container was asked to run. Taken at a checkpoint, compared at a restore, because a
 * changed argument must never be ignored silently.
 */
import type { Launch } from '../checkpoint/facts.ts';
import type { OciSpec } from './task/oci-spec.ts';

/**
 * Variables that the platform sets anew for each pod: the host name, and the addresses of services (the kubelet's
 * docker-link form, NAME_SERVICE_HOST, NAME_SERVICE_PORT…, NAME_PORT…).
 */
const PLATFORM_ENV =
  /^(HOSTNAME|KUBERNETES_.*|[A-Z0-9_]+_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|[A-Z0-9_]+_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;

/** Value of NAME_PORT and NAME_PORT_80_TCP: an URL. A user's own FOO_PORT=8080 is not the platform's. */
const LINK_URL = /^(tcp|udp|sctp):\/\/[^/]+:\d+$/;

function setByPlatform(variable: string): boolean {
  const at = variable.indexOf('=');
  const name = at < 0 ? variable : variable.slice(0, at);
  if (!PLATFORM_ENV.test(name)) return false;
  if (/_PORT(_\d+_(TCP|UDP|SCTP))?$/.test(name) && !name.includes('_SERVICE_')) {
    return LINK_URL.test(variable.slice(at + 1));
  }
  return true;
}

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

/** One sentence for each difference, in the user's words; empty if the pod asks for what was saved. */
export function launchDifferences(saved: Launch, asked: Launch): string[] {
  const differences: string[] = [];
  const compare = (what: string, was: string, is: string) => {
    if (was !== is) differences.push(`${what} was ${was}, now ${is}`);
  };
  compare('command line', JSON.stringify(saved.args), JSON.stringify(asked.args));
  compare('working directory', saved.cwd, asked.cwd);
  compare('user', `${saved.uid}:${saved.gid}`, `${asked.uid}:${asked.gid}`);
  compare('additional groups', JSON.stringify(saved.additionalGids), JSON.stringify(asked.additionalGids));
  return [...differences, ...envDifferences(saved.env, asked.env)];
}

/** Names only: a value may be a secret. */
function envDifferences(saved: readonly string[], asked: readonly string[]): string[] {
  const was = toMap(saved);
  const is = toMap(asked);
  const out: string[] = [];
  for (const [name, value] of was) {
    if (!is.has(name)) out.push(`environment variable ${name} is not set now`);
    else if (is.get(name) !== value) out.push(`environment variable ${name} has another value now`);
  }
  for (const name of is.keys()) if (!was.has(name)) out.push(`environment variable ${name} is new`);
  return out;
}

function toMap(env: readonly string[]): Map<string, string> {
  return new Map(
    env.map((variable) => {
      const at = variable.indexOf('=');
      return at < 0 ? [variable, ''] : [variable.slice(0, at), variable.slice(at + 1)];
    }),
  );
}
