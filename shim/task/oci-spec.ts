/** The parts of an OCI runtime spec (config.json) that the shim reads. Everything else is kept as it is. */

export interface OciProcess {
  terminal?: boolean;
  args?: string[];
  cwd?: string;
  env?: string[];
  user?: { uid?: number; gid?: number; additionalGids?: number[]; umask?: number };
  capabilities?: Partial<
    Record<'bounding' | 'effective' | 'inheritable' | 'permitted' | 'ambient', string[]>
  >;
  noNewPrivileges?: boolean;
  oomScoreAdj?: number;
  rlimits?: { type: string; hard: number; soft: number }[];
  apparmorProfile?: string;
  selinuxLabel?: string;
}

export interface OciMount {
  destination: string;
  type?: string;
  source?: string;
  options?: string[];
}

export interface OciHook {
  path: string;
  /** The first one is the name of the program. */
  args?: string[];
  env?: string[];
  /** Seconds. */
  timeout?: number;
}

export interface OciSpec {
  ociVersion?: string;
  process?: OciProcess;
  root?: { path?: string; readonly?: boolean };
  hostname?: string;
  mounts?: OciMount[];
  annotations?: Record<string, string>;
  hooks?: Partial<
    Record<'prestart' | 'createRuntime' | 'createContainer' | 'startContainer' | 'poststart', OciHook[]>
  >;
  linux?: {
    namespaces?: { type: string; path?: string }[];
    cgroupsPath?: string;
    devices?: { path: string; type?: string; major?: number; minor?: number }[];
    seccomp?: unknown;
    resources?: { memory?: { limit?: number } };
    sysctl?: Record<string, string>;
    /** Of SELinux, for what is mounted. */
    mountLabel?: string;
    maskedPaths?: string[];
    readonlyPaths?: string[];
  };
}
