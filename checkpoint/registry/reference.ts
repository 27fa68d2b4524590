import { Code } from '../../proto/status.ts';
import { isDigest } from '../digest.ts';
import { CheckpointError } from '../error.ts';

/** An image reference, normalised as docker does. */
export interface Reference {
  /** Host, with the port if one was given: "docker.io", "registry.example:5000", "[::1]:5000". */
  registry: string;
  /** "library/debian", "team/model". */
  repository: string;
  /** Undefined only if there is a digest. */
  tag: string | undefined;
  digest: string | undefined;
}

const component = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const repositoryPattern = new RegExp(`^${component}(?:/${component})*$`);
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const hostPattern =
  /^(?:(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])(?:\.(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;

/**
 * Parses `[host[:port]/]path[:tag][@digest]`. Without a host it is docker.io, and there a path of one component lies
 * below "library/"; without tag and digest the tag is "latest". Grammar: distribution's reference package.
 * Throws invalidArgument.
 */
export function parseReference(text: string): Reference {
  const fail = (why: string) =>
    new CheckpointError(Code.invalidArgument, `Cannot use the image reference "${printable(text)}": ${why}`);
  const [name = '', digest, ...more] = text.split('@');
  if (more.length > 0) throw fail('it has more than one "@"');
  if (digest !== undefined && !isDigest(digest)) throw fail('its digest is not a SHA-256 digest');
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  // Without a dot, a port or "localhost" the first component is part of the path.
  const hasHost = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  const registry = normalHost(hasHost ? first : 'docker.io');
  if (!hostPattern.test(registry)) throw fail('its host is not valid');
  const rest = hasHost ? name.slice(slash + 1) : name;
  const colon = rest.lastIndexOf(':');
  const path = colon < 0 ? rest : rest.slice(0, colon);
  const tag = colon < 0 ? undefined : rest.slice(colon + 1);
  if (tag !== undefined && !tagPattern.test(tag)) throw fail('its tag is not valid');
  const repository = registry === 'docker.io' && !path.includes('/') ? `library/${path}` : path;
  if (!repositoryPattern.test(repository) || repository.length > 255)
    throw fail(
      /[A-Z]/.test(repository) ? 'its repository must be lower case' : 'its repository name is not valid',
    );
  return { registry, repository, tag: tag ?? (digest === undefined ? 'latest' : undefined), digest };
}

/** The full form: parseReference reads it back. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${reference.registry}/${reference.repository}${tag}${digest}`;
}

/** What names the manifest in a URL: the digest if there is one, else the tag. */
export function manifestSelector(reference: Reference): string {
  return reference.digest ?? reference.tag ?? 'latest';
}

/** The host whose API serves a registry. docker.io serves none itself. */
export function apiHost(registry: string): string {
  return registry === 'docker.io' ? 'registry-1.docker.io' : registry;
}

/** Whether a host (with or without port) is this machine: plain HTTP is right there, and only there. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:[0-9]+$/, '').toLowerCase();
  if (name === 'localhost' || name.endsWith('.localhost')) return true;
  return name === '[::1]' || /^127(?:\.[0-9]{1,3}){3}$/.test(name);
}

function normalHost(host: string): string {
  return host === 'index.docker.io' ? 'docker.io' : host;
}

function printable(text: string): string {
  return text.slice(0, 200).replace(/[^\x20-\x7e]/g, '?');
}
