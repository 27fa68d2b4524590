import { z } from 'zod';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import type { Credentials } from './credentials.ts';

const entrySchema = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
});
const authsSchema = z.record(z.string(), entrySchema);
/** A helper's name becomes part of a program's name. */
const helperSchema = z.string().regex(/^[\w.-]*$/);
const configSchema = z.object({
  auths: authsSchema.optional(),
  credHelpers: z.record(z.string(), helperSchema).optional(),
  credsStore: helperSchema.optional(),
});

export interface DockerConfig {
  auths: Readonly<Record<string, z.infer<typeof entrySchema>>>;
  credHelpers: Readonly<Record<string, string>>;
  credsStore: string | undefined;
}

/**
 * Parses a docker `config.json`, the `.dockerconfigjson` of a Kubernetes secret, or the older `.dockercfg`, which is
 * `auths` alone. Throws invalidArgument if the text is none of them, without quoting it.
 */
export function parseDockerConfig(text: string): DockerConfig {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The cause would quote a piece of the file, which may be a password.
    throw unusable();
  }
  const parsed = configSchema.safeParse(value);
  if (!parsed.success) throw unusable();
  const { auths, credHelpers = {}, credsStore } = parsed.data;
  // Every document fits configSchema that has none of its keys; one of entries alone is a .dockercfg.
  const old = auths === undefined ? authsSchema.safeParse(value) : undefined;
  return { auths: auths ?? old?.data ?? {}, credHelpers, credsStore: credsStore || undefined };
}

/** The credential helper to ask about a registry: "x" stands for the program docker-credential-x. */
export function helperFor(config: DockerConfig, registry: string): string | undefined {
  const named = Object.entries(config.credHelpers).find(([key]) => matchHost(key, registry) === 'exact');
  // docker takes an empty name for a registry that has no helper although others have one.
  return named ? named[1] || undefined : config.credsStore;
}

/** What docker calls a registry when it asks a helper. */
export function helperServer(registry: string): string {
  return registry === 'docker.io' ? 'https://index.docker.io/v1/' : registry;
}

/**
 * The credentials that the text itself has for a repository, best first: a key may be a host, an address, and may have a
 * path, which repositories must then lie below, or "*" in the host, as the kubelet reads them. Throws invalidArgument
 * for an entry that cannot be read.
 */
export function credentialsIn(config: DockerConfig, registry: string, repository: string): Credentials[] {
  return Object.entries(config.auths)
    .map(([key, entry]) => ({ rank: rankOf(key, registry, repository), entry }))
    .filter(({ rank }) => rank >= 0)
    .sort((one, other) => other.rank - one.rank)
    .map(({ entry }) => fromEntry(entry))
    .filter((credentials) => credentials !== undefined);
}

/** Longer paths before shorter ones, and hosts before patterns; -1 if the key is about something else. */
function rankOf(key: string, registry: string, repository: string): number {
  const match = matchHost(key, registry);
  const path = pathOf(key);
  if (match === 'none' || (path !== '' && !`${repository}/`.startsWith(`${path}/`))) return -1;
  return path.length * 2 + (match === 'exact' ? 1 : 0);
}

function matchHost(key: string, registry: string): 'exact' | 'pattern' | 'none' {
  const host = key.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
  if (host === registry || (registry === 'docker.io' && host === 'index.docker.io')) return 'exact';
  if (!host.includes('*')) return 'none';
  const [labels, wanted] = [host.split('.'), registry.split('.')];
  return labels.length === wanted.length && labels.every((label, i) => matchLabel(label, wanted[i] ?? ''))
    ? 'pattern'
    : 'none';
}

/** "*" stands for any run of characters in one label. Linear, as patterns are somebody else's input. */
function matchLabel(pattern: string, label: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return pattern === label;
  if (!label.startsWith(first) || label.length < first.length + last.length) return false;
  const end = label.length - last.length;
  let at = first.length;
  for (const part of rest) {
    const found = label.indexOf(part, at);
    if (found < 0 || found + part.length > end) return false;
    at = found + part.length;
  }
  return label.endsWith(last);
}

/** docker writes keys as "host", "https://host" and "https://host/v1/"; others have a path of repositories. */
function pathOf(key: string): string {
  const path = key.replace(/^https?:\/\//, '').replace(/^[^/]*\/?/, '');
  return path.replace(/^v[12](?:\/|$)/, '').replace(/\/+$/, '');
}

function fromEntry(entry: z.infer<typeof entrySchema>): Credentials | undefined {
  if (entry.identitytoken) return { kind: 'refresh-token', token: entry.identitytoken };
  if (entry.auth) {
    const decoded = Buffer.from(entry.auth, 'base64').toString('utf8').replace(/\0+$/, '');
    const colon = decoded.indexOf(':');
    if (colon <= 0) throw unusable();
    return { kind: 'password', username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
  }
  if (entry.username) return { kind: 'password', username: entry.username, password: entry.password ?? '' };
  return undefined;
}

function unusable(): CheckpointError {
  return new CheckpointError(Code.invalidArgument, 'it is no docker config.json');
}
