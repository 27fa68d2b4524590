/** The launch fingerprint: what a container was asked to run. Taken at a checkpoint, compared at a restore. */
import type { Launch } from './facts.ts';

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

/** containerd's annotations of CRI containers (internal/cri/annotations). */
const SANDBOX = 'io.kubernetes.cri.sandbox-';

/**
 * What a pod has alone: two pods that ask for the same differ in it, as in their host names. By the paths that a manifest's
 * `fieldRef` has. A pod's namespace, node and addresses are not among them: the first two can be the same, and the last one
 * a process may have told others.
 */
function ownFields({ annotations = {}, hostname }: Spec): ReadonlyMap<string, string> {
  const named = (value: string | undefined, field: string) => (value ? [[value, field] as const] : []);
  return new Map([
    ...named(annotations[`${SANDBOX}uid`], 'metadata.uid'),
    // A container outside of any pod, of `thaw build` say, has a host name in its place.
    ...named(annotations[`${SANDBOX}name`] ?? hostname, 'metadata.name'),
  ]);
}

/** The parts of an OCI runtime spec that say what is run. */
interface Spec {
  hostname?: string;
  annotations?: Record<string, string>;
  process?: {
    args?: string[];
    cwd?: string;
    env?: string[];
    user?: { uid?: number; gid?: number; additionalGids?: number[] };
  };
}

/** Without what config maps and secrets hold: whoever sees the mounts adds that. */
export function launchOf(spec: Spec): Launch {
  const { process = {} } = spec;
  const env = [...new Set((process.env ?? []).filter((variable) => !setByPlatform(variable)))].sort();
  const own = ownFields(spec);
  const ofPod = env.flatMap((entry) => {
    const at = entry.indexOf('=');
    const field = at < 0 ? undefined : own.get(entry.slice(at + 1));
    return field === undefined ? [] : [{ variable: entry.slice(0, at), field }];
  });
  return {
    args: [...(process.args ?? [])],
    cwd: process.cwd ?? '/',
    uid: process.user?.uid ?? 0,
    gid: process.user?.gid ?? 0,
    additionalGids: [...new Set(process.user?.additionalGids ?? [])].sort((a, b) => a - b),
    env,
    ...(ofPod.length > 0 ? { ofPod } : {}),
  };
}
