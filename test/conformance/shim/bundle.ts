/** OCI bundles as containerd makes them: a folder with config.json, an empty rootfs folder and the log fifo. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { busybox } from '../../lib/index.ts';

export interface BundleOptions {
  args?: readonly string[];
  terminal?: boolean;
  /** Joins the PID namespace of the test node, as `hostPID: true` does. */
  hostPid?: boolean;
  /** Joins the PID namespace at this path instead of having its own. */
  pidNamespace?: string;
  annotations?: Readonly<Record<string, string>>;
  /** Laid over the spec's `linux.resources`. */
  resources?: object;
  user?: object;
  capabilities?: readonly string[];
  /** The OCI `linux.seccomp`. */
  seccomp?: object;
  /** Of AppArmor. */
  apparmorProfile?: string;
}

const CAPABILITIES = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_SETGID', 'CAP_SETUID', 'CAP_KILL'];

/** The JSON of an OCI process, for a container's first process and for execs. */
export function processSpec(args: readonly string[], extra: object = {}): object {
  return {
    user: { uid: 0, gid: 0 },
    args,
    env: ['PATH=/bin', 'HOME=/root'],
    cwd: '/',
    capabilities: { bounding: CAPABILITIES, effective: CAPABILITIES, permitted: CAPABILITIES },
    noNewPrivileges: true,
    ...extra,
  };
}

export function containerSpec(id: string, namespace: string, options: BundleOptions): object {
  const {
    args = ['sleep', '1000'],
    terminal = false,
    hostPid = false,
    annotations = {},
    resources,
  } = options;
  const { user, capabilities, pidNamespace, seccomp, apparmorProfile } = options;
  const namespaces: object[] = ['ipc', 'uts', 'mount', 'network'].map((type) => ({ type }));
  if (!hostPid) namespaces.push({ type: 'pid', ...(pidNamespace ? { path: pidNamespace } : {}) });
  return {
    ociVersion: '1.2.0',
    process: processSpec(args, {
      terminal,
      ...(user ? { user } : {}),
      ...(apparmorProfile ? { apparmorProfile } : {}),
      ...(capabilities
        ? { capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities } }
        : {}),
    }),
    root: { path: 'rootfs' },
    hostname: 'conformance',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
      {
        destination: '/dev/pts',
        type: 'devpts',
        source: 'devpts',
        options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'],
      },
    ],
    annotations,
    linux: {
      cgroupsPath: `/${namespace}/${id}`,
      namespaces,
      resources: { devices: [{ allow: false, access: 'rwm' }], ...resources },
      ...(seccomp ? { seccomp } : {}),
    },
  };
}

/** Makes `<state>/<namespace>/<id>`. */
export function makeBundle(state: string, namespace: string, id: string, options: BundleOptions): string {
  const bundle = join(state, namespace, id);
  mkdirSync(join(bundle, 'rootfs'), { recursive: true, mode: 0o711 });
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(containerSpec(id, namespace, options)));
  execFileSync('mkfifo', ['-m', '0700', join(bundle, 'log')]);
  return bundle;
}

/** Writes a root file system with busybox, for many containers to use as their lower directory. */
export function makeRootfs(directory: string): void {
  for (const { path, mode, content, symlink } of busybox()) {
    const target = join(directory, path);
    mkdirSync(content === undefined && symlink === undefined ? target : dirname(target), { recursive: true });
    if (content !== undefined) writeFileSync(target, content, { mode: mode ?? 0o644 });
    else if (symlink !== undefined) symlinkSync(symlink, target);
  }
}
