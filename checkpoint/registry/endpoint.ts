/** Where the API of a registry or a mirror is, and how it is spoken to. */
import type { OnReadOpts } from 'node:net';
import { buildConnector } from 'undici';

export interface Endpoint {
  /** Of the API, with a slash at the end: "https://registry.example/v2/". */
  base: URL;
  /** Certificates of authorities, PEM, that are trusted beside those that Node trusts. */
  ca: readonly string[];
  /** Shown to this host alone. PEM. */
  client: readonly { cert: string; key: string }[];
  /** Any certificate of this host will do. Not of others: its token service gets the password. */
  skipVerify: boolean;
  /** For every request to this host, and to no other. Names in lower case. */
  headers: Readonly<Record<string, string>>;
  connectTimeoutMs?: number | undefined;
}

type Connect = buildConnector.connector;

const CONNECT_TIMEOUT_MS = 10_000;
/** The chain ends at an authority that is not known. */
const UNKNOWN_AUTHORITY = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

export function isUnknownAuthority(code: string | undefined): boolean {
  return code !== undefined && UNKNOWN_AUTHORITY.has(code);
}

/** Opens connections to the endpoint, and to the hosts that it redirects to. `onread`: takes what comes in. */
export function connectorFor(
  endpoint: Pick<Endpoint, 'base' | 'ca' | 'client' | 'skipVerify' | 'connectTimeoutMs'>,
  onread?: OnReadOpts,
): Connect {
  const { base, ca, client, skipVerify, connectTimeoutMs: timeout = CONNECT_TIMEOUT_MS } = endpoint;
  // One stream a connection: over HTTP/2 all ranges would share one connection's window.
  const common = { timeout, allowH2: false, ...(onread ? { onread } : {}) };
  const own = {
    ...common,
    ...(client.length > 0 ? { cert: client.map(({ cert }) => cert), key: client.map(({ key }) => key) } : {}),
  };
  // A `ca` replaces what Node trusts, and a list with both takes 75 ms to load: so the one is tried, then the other.
  const extra = ca.length > 0 ? { ca: [...ca] } : undefined;
  const toOwn = skipVerify
    ? buildConnector({ ...own, rejectUnauthorized: false })
    : oneOf([...(extra ? [buildConnector({ ...own, ...extra })] : []), buildConnector(own)]);
  const toOthers = oneOf([
    buildConnector(common),
    ...(extra ? [buildConnector({ ...common, ...extra })] : []),
  ]);
  return (options, callback) => {
    const isOwn = options.host === base.host && options.protocol === base.protocol;
    (isOwn ? toOwn : toOthers)(options, callback);
  };
}

function oneOf([first, ...rest]: readonly Connect[]): Connect {
  return (options, callback) => {
    first?.(options, (...result) => {
      const [error] = result;
      const code = error && 'code' in error ? String(error.code) : undefined;
      if (isUnknownAuthority(code) && rest.length > 0) oneOf(rest)(options, callback);
      else callback(...result);
    });
  };
}
