/** Credentials as a kubelet sends them. Source: k8s.io/cri-api, AuthConfig; containerd, internal/cri, ParseAuth. */
import type { Credentials } from '../../checkpoint/registry/index.ts';

/** Fields that are not set are empty. */
export interface AuthConfig {
  username: string;
  password: string;
  /** Base64 of "username:password". */
  auth: string;
  /** The registry that they are for, as an address or a host; empty: that of the image. */
  serverAddress: string;
  identityToken: string;
}

const DOCKER_HUB = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];

/** What they say for a registry (as in Reference.registry); undefined if they are for another one, or are none. */
export function credentialsOf(config: AuthConfig, registry: string): Credentials | undefined {
  const { username, password, auth, serverAddress, identityToken } = config;
  if (serverAddress !== '' && !isFor(serverAddress, registry)) return undefined;
  if (username !== '') return { kind: 'password', username, password };
  if (identityToken !== '') return { kind: 'refresh-token', token: identityToken };
  const [, user, secret] = /^([^:]+):(.*)$/s.exec(Buffer.from(auth, 'base64').toString('utf8')) ?? [];
  if (user === undefined || secret === undefined) return undefined;
  // Some clients fill up what is shorter than its block.
  return { kind: 'password', username: user, password: secret.replace(/\0+$/, '') };
}

function isFor(address: string, registry: string): boolean {
  const host = address.replace(/^https?:\/\//, '').replace(/\/.*$/s, '');
  return host === registry || (DOCKER_HUB.includes(registry) && DOCKER_HUB.includes(host));
}
