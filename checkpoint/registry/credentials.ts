import { z } from 'zod';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';

/** How to log in to one registry. Never logged, never part of an error. */
export type Credentials =
  | { kind: 'password'; username: string; password: string }
  /** An OAuth2 refresh token, which docker stores as "identitytoken". */
  | { kind: 'refresh-token'; token: string };

const entrySchema = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
});
const configSchema = z.object({ auths: z.record(z.string(), entrySchema).optional() });

/**
 * The credentials for a registry in the text of a docker `config.json` (also the `.dockerconfigjson` of a Kubernetes
 * secret); undefined if it has none. Credential helpers are not run. Throws invalidArgument if the text is no such
 * file, without quoting it.
 */
export function credentialsFromDockerConfig(text: string, registry: string): Credentials | undefined {
  const auths = parse(text);
  for (const key of keysOf(registry)) {
    const entry = auths[key];
    if (entry) return fromEntry(entry);
  }
  const wanted = new Set(keysOf(registry).map(hostOf));
  const found = Object.entries(auths).find(([key]) => wanted.has(hostOf(key)));
  return found && fromEntry(found[1]);
}

function parse(text: string): Record<string, z.infer<typeof entrySchema>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The cause would quote a piece of the file, which may be a password.
    throw unusable();
  }
  const parsed = configSchema.safeParse(value);
  if (!parsed.success) throw unusable();
  return parsed.data.auths ?? {};
}

function keysOf(registry: string): string[] {
  return registry === 'docker.io' ? ['https://index.docker.io/v1/', 'docker.io'] : [registry];
}

/** docker writes keys as "host", "https://host" and "https://host/v1/". */
function hostOf(key: string): string {
  return key.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
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
  return new CheckpointError(
    Code.invalidArgument,
    'Cannot read the registry credentials: the file is no docker config.json',
  );
}
