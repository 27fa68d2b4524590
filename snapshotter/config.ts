/** The daemon's configuration: one TOML file, every key optional. docs/operations.md describes the keys. */
import { readFileSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { z } from 'zod';
import { configKeys, nearestKey } from './config-keys.ts';
import { invalidArgument } from './error.ts';

const path = z.string().refine(isAbsolute, 'must be an absolute path');

/** docs/operations.md has a line for each key; config-keys.test.ts compares them. */
export const configSchema = z.strictObject({
  /** Snapshots, metadata and node cache. */
  root: path.default('/var/lib/thaw'),
  /** Directory of the sockets. */
  state: path.default('/run/thaw'),
  /** Socket of the Snapshots service; in `state` if not given. */
  address: path.optional(),
  containerd_address: path.default('/run/containerd/containerd.sock'),
  log_level: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info'),
  fetch: z
    .strictObject({
      /** Transfers at a time, over all checkpoints. */
      connections: z.number().int().min(1).max(64).default(8),
      /** Longest wait for the index of a checkpoint; then containerd pulls the layer as any other. */
      index_timeout_ms: z.number().int().min(100).max(600_000).default(30_000),
      /** Longest wait of a read from a lazy layer for bytes that are not here; then it fails. */
      read_timeout_ms: z.number().int().min(100).max(3_600_000).default(120_000),
    })
    .prefault({}),
  overlay: z
    .strictObject({
      /** Nothing that containers write to their root file system is flushed. */
      volatile: z.boolean().default(false),
    })
    .prefault({}),
  cache: z
    .strictObject({
      /** Most bytes that checkpoints take on this node; without it as many as the disk has. */
      max_bytes: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
    })
    .prefault({}),
  layers: z
    .strictObject({
      /** `loop`: lazy layers are mounted from loop devices also where the kernel needs none. */
      mounts: z.enum(['auto', 'loop']).default('auto'),
    })
    .prefault({}),
  metrics: z
    .strictObject({
      /** host:port for Prometheus; without it nothing listens. */
      address: z
        .string()
        .regex(/^(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}$/, 'must be host:port')
        .refine((text) => Number(text.slice(text.lastIndexOf(':') + 1)) <= 65_535, 'has no such port')
        .optional(),
    })
    .prefault({}),
  image_service: z
    .strictObject({
      /** Socket of CRI's image service for the kubelet; without it nothing listens. */
      address: path.optional(),
      /** How long credentials of a pull are kept, from the last pull with them on. */
      keep_credentials_s: z
        .number()
        .int()
        .min(1)
        .max(30 * 86_400)
        .default(43_200),
    })
    .prefault({}),
  /** A docker config.json with credentials for registries. */
  docker_config: path.optional(),
  /** Kubernetes secrets with credentials: files of type kubernetes.io/dockerconfigjson, or folders of them. */
  pull_secrets: z.array(path).default([]),
  /** containerd's folders of `<host>/hosts.toml`; `registries` goes before them. */
  hosts_dirs: z.array(path).default(['/etc/containerd/certs.d']),
  /** By host as in an image reference: "registry.example:5000". */
  registries: z
    .record(
      z.string(),
      z.strictObject({
        plain_http: z.boolean().optional(),
        /** Hosts that are asked before it. */
        mirrors: z.array(z.string().regex(/^[\w.-]+(:\d{1,5})?$/, 'must be a host, or host:port')).optional(),
      }),
    )
    .default({}),
});

export type Config = Omit<z.infer<typeof configSchema>, 'address'> & { address: string };
/** What the command line says; it wins over the file. */
export type ConfigFlags = Partial<Pick<Config, 'root' | 'state' | 'address'>>;

/** Parses the file's text. INVALID_ARGUMENT names every key that is unknown or has a wrong value. */
export function parseConfig(text: string, flags: ConfigFlags = {}): Config {
  let document: object;
  try {
    document = parse(text);
  } catch (cause) {
    const where = cause instanceof TomlError ? ` in line ${cause.line}` : '';
    throw invalidArgument(`Cannot read the configuration: it is no valid TOML${where}`, { cause });
  }
  const result = configSchema.safeParse({ ...document, ...definedOnly(flags) });
  if (!result.success)
    throw invalidArgument(`Cannot use the configuration: ${result.error.issues.map(explain).join('; ')}`);
  const { address, ...config } = result.data;
  return { ...config, address: address ?? `${config.state}/snapshotter.sock` };
}

/** A file that is not there is an empty one, unless it was asked for by name. */
export function loadConfig(file: { path: string; required: boolean }, flags: ConfigFlags): Config {
  let text = '';
  try {
    text = readFileSync(file.path, 'utf8');
  } catch (cause) {
    const missing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    if (!missing || file.required)
      throw invalidArgument(
        `Cannot read the configuration file "${file.path}"; check that it exists and can be read`,
        {
          cause,
        },
      );
  }
  return parseConfig(text, flags);
}

function explain(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') {
    const known = configKeys(configSchema);
    const keys = issue.keys.map((key) => {
      const path = [...issue.path.map(String), key];
      const nearest = nearestKey(path, known);
      return `"${path.join('.')}"${nearest === undefined ? '' : ` (did you mean "${nearest}"?)`}`;
    });
    return `unknown ${keys.length === 1 ? 'key' : 'keys'} ${keys.join(', ')}`;
  }
  return `"${issue.path.join('.')}": ${issue.message.toLowerCase()}`;
}

function definedOnly(flags: ConfigFlags): ConfigFlags {
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined));
}
