/** What each command is asked to do; the command files turn argv into these and know nothing of the work itself. */
export interface NodeOptions {
  /** containerd's socket. */
  address: string;
  namespace: string;
}

export interface RegistryOptions {
  plainHttp: boolean;
  /** containerd's folder of `HOST/hosts.toml`. */
  hostsDir: string;
}

export interface CheckpointOptions extends NodeOptions, RegistryOptions {
  container: string;
  image: string;
  stop: boolean;
  /** Restore it once on this node before it is published. */
  verify: boolean;
  /** How the restored one shows that it works; see cli/checkpoint/trial/probe.ts. */
  probe?: string;
  json: boolean;
  workDir: string;
}

export interface BuildOptions extends NodeOptions, RegistryOptions {
  /** Path of the build file; "-" for standard input. */
  file: string;
  image: string;
  dryRun: boolean;
  verify: boolean;
  /** Base layers become lazy ones. */
  lazy: boolean;
  snapshotter: string;
  systemdCgroup: boolean;
  json: boolean;
  workDir: string;
}

export interface ToImageOptions extends NodeOptions, RegistryOptions {
  to: 'image';
  /** Path of a checkpoint archive. */
  archive: string;
  image: string;
  base: string | undefined;
  /** Also where the archive has what was in them. */
  ignoreVolumes: boolean;
  json: boolean;
  workDir: string;
}

export interface ToArchiveOptions extends NodeOptions, RegistryOptions {
  to: 'archive';
  reference: string;
  /** Path of the archive to write. */
  archive: string;
  json: boolean;
  workDir: string;
}

export type ConvertOptions = ToImageOptions | ToArchiveOptions;

export type InspectOptions = RegistryOptions & { json: boolean; verify: boolean } & (
    | { source: 'registry'; reference: string }
    | { source: 'directory'; directory: string }
  );

export interface FetchOptions extends NodeOptions, RegistryOptions {
  reference: string;
  json: boolean;
}

export interface DaemonOptions {
  socket: string;
  json: boolean;
}

export interface StatusOptions extends DaemonOptions {
  /** Again each second, until interrupted. */
  watch: boolean;
}

export interface PrefetchOptions extends NodeOptions, DaemonOptions {
  reference: string;
  runtimeHandler: string;
}

export interface DoctorOptions extends NodeOptions {
  /** thaw-snapshotter's configuration file; its default one if not given. */
  config?: string;
  containerdConfig: string;
  json: boolean;
}

/** Where an installation lies; see cli/install/. */
export interface PlaceOptions extends NodeOptions {
  prefix: string;
  binDir: string;
  unitDir: string;
  containerdConfig: string;
  /** thaw-snapshotter's configuration file; its default one if not given. */
  config?: string;
  dryRun: boolean;
}

export interface InstallOptions extends PlaceOptions {
  /** Whose images are on thaw. */
  images: 'node' | 'class';
}

export interface UninstallOptions extends PlaceOptions {
  force: boolean;
  purge: boolean;
}

export interface DaemonSetOptions {
  /** The node's root directory. */
  host: string;
  prefix: string;
  daemonset: string;
  podNamespace: string;
  /** The node's name in Kubernetes; it is not labelled without. */
  nodeName?: string;
}

export interface EvictOptions extends DaemonOptions {
  id: string;
}

export interface WhyOptions {
  /** All pods if not given. */
  pod?: string;
  json: boolean;
}

export interface RetryOptions {
  /** Every one that failed if not given. */
  checkpoint?: string;
  json: boolean;
}

export interface RecordOptions {
  socket: string;
  seconds: number;
}

export interface ConvertLazyOptions extends RegistryOptions {
  source: string;
  target: string;
  /** What 'thaw record' printed: what comes first. */
  order?: string | undefined;
  json: boolean;
  workDir: string;
}

export interface GuardOptions extends NodeOptions {
  container: string;
  /** Directory to remove as well. */
  remove: string;
  /** Name of a container and a snapshot to remove, and its snapshotter. */
  trial: string;
  snapshotter: string;
  /** Whether the container is to go on: not if somebody else has paused it. */
  resume: boolean;
}

export interface Handlers {
  build(options: BuildOptions): Promise<void>;
  checkpoint(options: CheckpointOptions): Promise<void>;
  convert(options: ConvertOptions): Promise<void>;
  inspect(options: InspectOptions): Promise<void>;
  fetch(options: FetchOptions): Promise<void>;
  status(options: StatusOptions): Promise<void>;
  prefetch(options: PrefetchOptions): Promise<void>;
  doctor(options: DoctorOptions): Promise<void>;
  evict(options: EvictOptions): Promise<void>;
  why(options: WhyOptions): Promise<void>;
  retry(options: RetryOptions): Promise<void>;
  convertLazy(options: ConvertLazyOptions): Promise<void>;
  record(options: RecordOptions): Promise<void>;
  install(options: InstallOptions): Promise<void>;
  uninstall(options: UninstallOptions): Promise<void>;
  daemonset(options: DaemonSetOptions): Promise<void>;
  guard(options: GuardOptions): Promise<void>;
}
