/**
 * The OCI spec of a container that is built from: the one that containerd's CRI plug-in would make for it in a pod, as far as
 * a restore compares the two. Pure. Source: containerd's internal/cri/server/container_create.go and pkg/oci/spec.go, and
 * the kubelet's defaults.
 */
import { z } from 'zod';
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';
import { type BuildSpec, quantityBytes } from './spec.ts';
import type { UserIds } from './user.ts';

/** What of an image's config decides how it runs. */
export const runConfigSchema = z.looseObject({
  Entrypoint: z.array(z.string()).nullish(),
  Cmd: z.array(z.string()).nullish(),
  Env: z.array(z.string()).nullish(),
  WorkingDir: z.string().nullish(),
  User: z.string().nullish(),
});
export type RunConfig = z.infer<typeof runConfigSchema>;

export const HOST_NAME = 'thaw-build';
const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const CPU_PERIOD_US = 100_000;

const DEFAULT_CAPABILITIES = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
];

/** Of a kubelet. Source: Kubernetes' pkg/securitycontext. */
const MASKED_PATHS = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const READ_ONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** Sources of what a kubelet and the CRI plug-in mount into each container of a pod. */
export interface PodFiles {
  hostname: string;
  resolvConf: string;
  shm: string;
  hosts: string;
  terminationLog: string;
  serviceAccount: string;
}

export interface OciSpecInput {
  spec: BuildSpec;
  config: RunConfig;
  user: UserIds;
  files: PodFiles;
  /** Of AppArmor, where the pods have one. */
  apparmorProfile?: string | undefined;
  /** Path of a network namespace. */
  network: string;
  cgroupsPath: string;
}

export interface Launch {
  args: string[];
  cwd: string;
  env: string[];
}

/** What is run: the image's words where the build file has none, as in a pod. */
export function launchOf(spec: BuildSpec, config: RunConfig): Launch {
  const command = spec.command ?? config.Entrypoint ?? [];
  const given = spec.args ?? [];
  // A command of its own takes the image's arguments away too.
  const args = given.length > 0 || spec.command ? given : (config.Cmd ?? []);
  if (command.length + args.length === 0)
    throw new CliError(
      Code.invalidArgument,
      'Cannot start the image: it names no command; add "command" to the build file',
    );
  const env = new Map(
    [DEFAULT_PATH, ...(config.Env ?? [])].map((entry) => [entry.split('=', 1)[0] ?? '', entry]),
  );
  env.set('HOSTNAME', `HOSTNAME=${HOST_NAME}`);
  for (const [name, value] of Object.entries(spec.env)) env.set(name, `${name}=${value}`);
  return {
    args: [...command, ...args],
    cwd: spec.working_dir ?? (config.WorkingDir || '/'),
    env: [...env.values()],
  };
}

/** `process` is looked at here again; the rest is containerd's matter. */
export interface BuildOciSpec {
  process: Launch & { [key: string]: unknown };
  mounts: OciMount[];
  [key: string]: unknown;
}

export function ociSpec(input: OciSpecInput): BuildOciSpec {
  const { spec, config, user, files, apparmorProfile, network, cgroupsPath } = input;
  const capabilities = capabilitySet(spec);
  const sets = { bounding: capabilities, effective: capabilities, permitted: capabilities };
  const { memory, cpus } = spec.resources;
  return {
    ociVersion: '1.1.0',
    process: {
      terminal: false,
      user,
      ...launchOf(spec, config),
      capabilities: sets,
      ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
      noNewPrivileges: !spec.security.allow_privilege_escalation,
    },
    root: { path: 'rootfs', readonly: spec.security.read_only_root },
    hostname: HOST_NAME,
    mounts: mountsOf(spec, files),
    annotations: {},
    linux: {
      cgroupsPath,
      namespaces: [
        { type: 'pid' },
        { type: 'ipc' },
        { type: 'uts' },
        { type: 'mount' },
        { type: 'network', path: network },
      ],
      resources: {
        devices: [{ allow: false, access: 'rwm' }],
        ...(memory === undefined ? {} : { memory: { limit: Number(quantityBytes(memory)) } }),
        ...(cpus === undefined
          ? {}
          : { cpu: { period: CPU_PERIOD_US, quota: Math.round(cpus * CPU_PERIOD_US) } }),
      },
      maskedPaths: spec.pod.masked_paths ?? MASKED_PATHS,
      readonlyPaths: spec.pod.read_only_paths ?? READ_ONLY_PATHS,
    },
  };
}

function capabilitySet({ security }: BuildSpec): string[] {
  const named = (names: readonly string[]) =>
    names.map((name) => (name.startsWith('CAP_') ? name : `CAP_${name}`));
  const dropped = new Set(named(security.drop));
  const kept = dropped.has('CAP_ALL') ? [] : DEFAULT_CAPABILITIES.filter((name) => !dropped.has(name));
  return [...new Set([...kept, ...named(security.add)])];
}

export interface OciMount {
  destination: string;
  type: string;
  source: string;
  options: string[];
}

function mountsOf(spec: BuildSpec, files: PodFiles): OciMount[] {
  const { termination_log, service_account } = spec.pod;
  const root = spec.security.read_only_root;
  const own = spec.mounts.map(({ source, destination, read_only }) => bind(destination, source, read_only));
  const taken = new Set(own.map(({ destination }) => destination));
  const pod = [
    bind('/etc/hostname', files.hostname, root),
    bind('/etc/resolv.conf', files.resolvConf, root),
    bind('/dev/shm', files.shm, false),
    bind('/etc/hosts', files.hosts, root),
    ...(termination_log ? [bind('/dev/termination-log', files.terminationLog, false)] : []),
    ...(service_account
      ? [bind('/var/run/secrets/kubernetes.io/serviceaccount', files.serviceAccount, true)]
      : []),
  ].filter(({ destination }) => !taken.has(destination));
  // What is mounted below another mount comes after it.
  const binds = [...pod, ...own].sort((a, b) => depth(a) - depth(b));
  return [...SYSTEM_MOUNTS, ...binds];
}

function depth({ destination }: OciMount): number {
  return destination.split('/').filter(Boolean).length;
}

function bind(destination: string, source: string, readOnly: boolean): OciMount {
  return { destination, type: 'bind', source, options: ['rbind', 'rprivate', readOnly ? 'ro' : 'rw'] };
}

const SYSTEM_MOUNTS: OciMount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'],
  },
];
