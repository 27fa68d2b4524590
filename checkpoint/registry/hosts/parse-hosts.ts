/** containerd's hosts.toml as text. Source: containerd's docs/hosts.md and core/remotes/docker/config/hosts.go. */
import { isAbsolute, join, normalize } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { z } from 'zod';
import { Code } from '../../../proto/status.ts';
import { CheckpointError } from '../../error.ts';

export type Capability = 'pull' | 'resolve' | 'push';

/** One host of a hosts.toml, its files not read yet. */
export interface HostEntry {
  /** Base of the API; undefined for the registry itself where the file names no `server`. */
  base: URL | undefined;
  capabilities: readonly Capability[];
  /** Absolute paths. */
  ca: readonly string[];
  client: readonly { cert: string; key: string }[];
  skipVerify: boolean;
  headers: Readonly<Record<string, string>>;
  connectTimeoutMs: number | undefined;
}

const oneOrMany = z.union([z.string(), z.array(z.string())]);
const hostSchema = z.object({
  capabilities: z
    .array(
      z
        .string()
        .toLowerCase()
        .pipe(z.enum(['pull', 'resolve', 'push'])),
    )
    .default([]),
  ca: oneOrMany.default([]),
  client: z
    .union([z.string(), z.array(z.union([z.string(), z.tuple([z.string(), z.string()])]))])
    .default([]),
  skip_verify: z.boolean().default(false),
  /** What could end a header, or begin another, is refused. */
  header: z
    .record(z.string().regex(/^[\w!#$%&'*+.^`|~-]+$/), z.union([z.string(), z.array(z.string())]))
    .default({}),
  override_path: z.boolean().default(false),
  dial_timeout: z.string().optional(),
});
const fileSchema = hostSchema.extend({
  server: z.string().default(''),
  host: z.record(z.string(), hostSchema).default({}),
});

const DURATION_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/**
 * The hosts in the order in which they are asked: those of the tables in the order of the file, the server last. Paths are
 * relative to `directory`. Keys that containerd does not know are let pass, as it does. Throws INVALID_ARGUMENT.
 */
export function parseHosts(text: string, directory: string): HostEntry[] {
  const refuse = (why: string, cause?: unknown) =>
    new CheckpointError(Code.invalidArgument, `Cannot use "${join(directory, 'hosts.toml')}": ${why}`, {
      cause,
    });
  let document: unknown;
  try {
    document = parse(text);
  } catch (cause) {
    throw refuse(`it is no valid TOML${cause instanceof TomlError ? ` in line ${cause.line}` : ''}`);
  }
  const parsed = fileSchema.safeParse(document);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw refuse(`"${issue?.path.join('.')}" is not what containerd takes there`);
  }
  const { server, host, ...own } = parsed.data;
  const entry = (address: string, config: z.infer<typeof hostSchema>): HostEntry => ({
    base: address === '' ? undefined : baseOf(address, config.override_path, refuse),
    capabilities: config.capabilities.length > 0 ? config.capabilities : ['pull', 'resolve', 'push'],
    ca: list(config.ca).map((path) => absolute(directory, path)),
    client: list(config.client).map((pair) => {
      const [cert, key] = typeof pair === 'string' ? [pair, pair] : pair;
      return { cert: absolute(directory, cert), key: absolute(directory, key) };
    }),
    skipVerify: config.skip_verify,
    headers: headersOf(config.header, refuse),
    connectTimeoutMs: config.dial_timeout === undefined ? undefined : durationMs(config.dial_timeout, refuse),
  });
  return [...Object.entries(host).map(([address, config]) => entry(address, config)), entry(server, own)];
}

function baseOf(address: string, overridePath: boolean, refuse: (why: string) => Error): URL {
  const withScheme = address.startsWith('http') ? address : `https://${address}`;
  let url: URL;
  try {
    url = new URL(withScheme);
  } catch {
    throw refuse(`"${address}" is no address of a host`);
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw refuse(`"${address}" is neither https nor http`);
  const path = normalize(url.pathname).replace(/\/+$/, '');
  const api = overridePath || path.endsWith('/v2') ? path : `${path}/v2`;
  return new URL(`${url.protocol}//${url.host}${api}/`);
}

function headersOf(
  header: Readonly<Record<string, string | string[]>>,
  refuse: (why: string) => Error,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(header).map(([name, value]) => {
      const text = list(value).join(', ');
      // The value may be a credential: only its name is told.
      if (/[^\t\x20-\x7e\x80-\xff]/.test(text))
        throw refuse(`header "${name}" has a value that cannot be sent`);
      return [name.toLowerCase(), text];
    }),
  );
}

/** Go's time.ParseDuration, as far as somebody writes it for a time-out. */
function durationMs(text: string, refuse: (why: string) => Error): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  if (parts.length === 0 || parts.map(([whole]) => whole).join('') !== text)
    throw refuse(`"${text}" is no duration, as "5s" is one`);
  const ms = parts.reduce((sum, [, count, unit]) => sum + Number(count) * (DURATION_MS[unit ?? ''] ?? 0), 0);
  return Math.max(1, Math.round(ms));
}

function list<T>(value: T | readonly T[] | string): readonly T[] {
  return Array.isArray(value) ? value : [value as T];
}

function absolute(directory: string, path: string): string {
  return isAbsolute(path) ? path : join(directory, path);
}
