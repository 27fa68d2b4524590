/** The file that says what `thaw build` is to build. docs/cli.md lists its keys. */
import { constants } from 'node:os';
import { parse, TomlError } from 'smol-toml';
import { z } from 'zod';
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';

const absolute = z.string().regex(/^\/[^\0]*$/, 'must be an absolute path');
const words = z.array(z.string()).min(1);
const port = z.int().min(1).max(65_535);
const seconds = z.number().positive().max(86_400);

const http = z.strictObject({ port, path: z.string().startsWith('/').default('/') });
const tcp = z.strictObject({ port });

/** Something that can be waited for; exactly one key of it is set. */
const condition = {
  http: http.optional(),
  tcp: tcp.optional(),
  exec: words.optional(),
  file: absolute.optional(),
  log_line: z.string().min(1).refine(isPattern, 'must be a regular expression').optional(),
};
const CONDITIONS = ['http', 'tcp', 'exec', 'file', 'log_line'] as const;

const until = z.strictObject(condition).superRefine(exactlyOne(CONDITIONS));

const ready = z
  .strictObject({ ...condition, timeout_s: seconds.default(600) })
  .superRefine(exactlyOne(CONDITIONS));

const request = z.strictObject({
  port,
  path: z.string().startsWith('/').default('/'),
  method: z
    .string()
    .regex(/^[A-Z]+$/, 'must be a method of HTTP')
    .default('GET'),
  headers: z.record(z.string(), z.string()).default({}),
  body: z.string().optional(),
  /** What it must be answered with; without one any from 200 to 399. */
  status: z.int().min(100).max(599).optional(),
});

const warmUp = z
  .strictObject({
    http: request.optional(),
    exec: words.optional(),
    times: z.int().min(1).max(100_000).default(1),
    timeout_s: seconds.default(600),
  })
  .superRefine(exactlyOne(['http', 'exec']));

const quiesce = z
  .strictObject({
    signal: z
      .string()
      .refine((name) => signalNumber(name) !== undefined, 'must be a signal, as "SIGUSR1"')
      .optional(),
    exec: words.optional(),
    until: until.optional(),
    timeout_s: seconds.default(60),
  })
  .superRefine(exactlyOne(['signal', 'exec']));

const mount = z.strictObject({
  source: absolute,
  destination: absolute.refine((path) => path !== '/', 'must not be the root'),
  read_only: z.boolean().default(false),
  /** A config map or secret of the pods. */
  config: z.boolean().default(false),
});

const capability = z.string().regex(/^(CAP_)?[A-Z_]+$/, 'must be a capability, as "NET_BIND_SERVICE"');

export const buildSpecSchema = z.strictObject({
  image: z.string().min(1),
  command: words.optional(),
  args: z.array(z.string()).optional(),
  working_dir: absolute.optional(),
  user: z
    .string()
    .regex(/^([a-z_][\w.-]*|\d+(:\d+)?)$/i, 'must be a name, UID, or UID:GID')
    .optional(),
  env: z.record(z.string().regex(/^[^=\0]+$/, 'must be a name'), z.string()).default({}),
  mounts: z.array(mount).max(256).default([]),
  resources: z
    .strictObject({
      memory: z
        .string()
        .regex(/^\d+([KMGT]i?)?$/, 'must be bytes, as "4Gi"')
        .optional(),
      cpus: z.number().positive().max(4096).optional(),
    })
    .default({}),
  security: z
    .strictObject({
      add: z.array(capability).default([]),
      drop: z.array(capability).default([]),
      allow_privilege_escalation: z.boolean().default(true),
      read_only_root: z.boolean().default(false),
      apparmor_profile: z.string().min(1).optional(),
    })
    .prefault({}),
  pod: z
    .strictObject({
      termination_log: z.boolean().default(true),
      service_account: z.boolean().default(true),
      masked_paths: z.array(absolute).optional(),
      read_only_paths: z.array(absolute).optional(),
    })
    .prefault({}),
  ready,
  warm_up: z.array(warmUp).max(1000).default([]),
  quiesce: quiesce.optional(),
  verify: z
    .strictObject({ http: http.optional(), tcp: tcp.optional(), exec: words.optional() })
    .superRefine(exactlyOne(['http', 'tcp', 'exec']))
    .optional(),
});

export type BuildSpec = z.infer<typeof buildSpecSchema>;
export type Condition = z.infer<typeof until>;
export type WarmUp = z.infer<typeof warmUp>;
export type WarmUpRequest = z.infer<typeof request>;
export type Quiesce = z.infer<typeof quiesce>;

/** `json` is the form that other programs write. INVALID_ARGUMENT names every key that is unknown or wrong. */
export function parseBuildSpec(text: string, format: 'toml' | 'json'): BuildSpec {
  const result = buildSpecSchema.safeParse(parseText(text, format));
  if (result.success) return result.data;
  throw invalid(`Cannot use the build file: ${result.error.issues.map(explain).join('; ')}`);
}

function parseText(text: string, format: 'toml' | 'json'): unknown {
  try {
    return format === 'json' ? JSON.parse(text) : parse(text);
  } catch (cause) {
    const where = cause instanceof TomlError ? ` in line ${cause.line}` : '';
    throw invalid(`Cannot read the build file: it is no valid ${format.toUpperCase()}${where}`, cause);
  }
}

function explain(issue: z.core.$ZodIssue): string {
  const at = (path: readonly PropertyKey[]) => path.map(String).join('.');
  if (issue.code === 'unrecognized_keys')
    return `unknown ${issue.keys.length === 1 ? 'key' : 'keys'} ${issue.keys.map((key) => `"${at([...issue.path, key])}"`).join(', ')}`;
  if (issue.code === 'invalid_type' && issue.message.endsWith('received undefined') && issue.path.length > 0)
    return `"${at(issue.path)}" is missing`;
  const { message } = issue;
  return issue.path.length === 0
    ? message.toLowerCase()
    : `"${at(issue.path)}": ${message.charAt(0).toLowerCase()}${message.slice(1)}`;
}

/** The one kind of a table where each kind is a key of its own. */
function exactlyOne(kinds: readonly string[]) {
  return (value: object, context: z.core.$RefinementCtx) => {
    const set = kinds.filter((kind) => (value as Record<string, unknown>)[kind] !== undefined);
    if (set.length !== 1)
      context.addIssue({
        code: 'custom',
        message: `needs exactly one of ${kinds.join(', ')}${set.length > 1 ? `, not ${set.join(' and ')}` : ''}`,
      });
  };
}

function isPattern(text: string): boolean {
  try {
    new RegExp(text);
    return true;
  } catch {
    return false;
  }
}

/** Undefined for what is none, and for those that a process cannot handle. */
export function signalNumber(name: string): number | undefined {
  if (name === 'SIGKILL' || name === 'SIGSTOP') return undefined;
  return (constants.signals as Readonly<Record<string, number>>)[name];
}

const UNITS: Readonly<Record<string, bigint>> = {
  '': 1n,
  K: 1000n,
  M: 1000n ** 2n,
  G: 1000n ** 3n,
  T: 1000n ** 4n,
  Ki: 1n << 10n,
  Mi: 1n << 20n,
  Gi: 1n << 30n,
  Ti: 1n << 40n,
};

/** A quantity that the schema has let through, as in a pod: "4Gi", "500M". */
export function quantityBytes(quantity: string): bigint {
  const [, digits = '0', unit = ''] = /^(\d+)(\D*)$/.exec(quantity) ?? [];
  return BigInt(digits) * (UNITS[unit] ?? 1n);
}

function invalid(message: string, cause?: unknown): CliError {
  return new CliError(Code.invalidArgument, message, {
    context: { usage: true },
    ...(cause === undefined ? {} : { cause }),
  });
}
