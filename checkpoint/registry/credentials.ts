/** How to log in to one registry. Never logged, never part of an error. */
export type Credentials =
  | { kind: 'password'; username: string; password: string }
  /** An OAuth2 refresh token, which docker stores as "identitytoken". */
  | { kind: 'refresh-token'; token: string };

export interface CredentialRequest {
  /** As in Reference.registry. */
  registry: string;
  repository: string;
  /** The registry did not take these: others, or newer ones, are asked for. */
  refused: readonly Credentials[];
}

/** The credentials to try next; undefined if there are none that were not refused. */
export type FindCredentials = (request: CredentialRequest) => Promise<Credentials | undefined>;

export function sameCredentials(one: Credentials, other: Credentials): boolean {
  switch (one.kind) {
    case 'password':
      return other.kind === 'password' && other.username === one.username && other.password === one.password;
    case 'refresh-token':
      return other.kind === 'refresh-token' && other.token === one.token;
  }
}

export function isRefused(credentials: Credentials, refused: readonly Credentials[]): boolean {
  return refused.some((each) => sameCredentials(each, credentials));
}
