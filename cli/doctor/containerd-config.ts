/** What thaw needs of containerd's configuration. Pure: from `containerd config dump` to findings. */
import type { TomlTable, TomlValue } from 'smol-toml';
import { type Finding, failed, ok, warning } from './finding.ts';
import { isThaw } from './images.ts';
import type { ContainerdConfig, DaemonConfig } from './machine.ts';
import { isAtLeast } from './version.ts';

const CONFIG = 'containerd configuration';
const DROP_IN = 'take it from the drop-in in deploy/containerd, then restart containerd';

export interface ConfigFindings {
  /** Name of the proxy plug-in, if there is one for the daemon. */
  snapshotter: string | undefined;
  /** Shim programs that runtimes name by path. */
  shimPaths: string[];
  findings: Finding[];
}

/** One view of both versions of the CRI plug-in's settings. */
interface CriSettings {
  snapshotter: string;
  annotationsDisabled: boolean;
  runtimes: Runtime[];
  /** By handler. Of version 3 alone. */
  platforms: TomlTable;
}

interface Runtime {
  handler: string;
  type: string;
  path: string;
  snapshotter: string;
  podAnnotations: readonly string[];
}

export function checkContainerdConfig(
  config: ContainerdConfig,
  version: string,
  { address, root }: DaemonConfig,
): ConfigFindings {
  const plugin = Object.entries(table(config, 'proxy_plugins')).find(
    ([, value]) => isTable(value) && value['type'] === 'snapshot' && value['address'] === address,
  );
  const cri = criSettings(config);
  const ours = cri.runtimes.filter(({ type, path }) => isThaw(type) || isThaw(path));
  const shimPaths = ours.map(({ path }) => path).filter((path) => path !== '');
  if (!plugin) {
    const finding = failed(CONFIG, `no proxy plug-in of type snapshot has the address ${address}`, DROP_IN);
    return { snapshotter: undefined, shimPaths, findings: [finding] };
  }
  const [name, settings] = plugin;
  const findings = [
    ...checkExports(table(settings as TomlTable, 'exports'), version, root),
    ...checkAnnotations(cri),
    ...(ours.length === 0
      ? [failed(CONFIG, "no runtime handler runs thaw's shim (io.containerd.runc.thaw.v2)", DROP_IN)]
      : ours.flatMap((runtime) => checkRuntime(runtime, cri, name, version))),
  ];
  const handlers = ours.map(({ handler }) => handler).join(', ');
  return {
    snapshotter: name,
    shimPaths,
    findings: findings.length > 0 ? findings : [ok(CONFIG, `plug-in ${name}, handlers ${handlers}`)],
  };
}

export interface CdiSettings {
  enabled: boolean;
  dirs: readonly string[];
}

/** Whether containerd gives containers the devices that a CDI specification describes. */
export function cdiSettings(config: ContainerdConfig): CdiSettings {
  const plugins = table(config, 'plugins');
  const runtime = table(plugins, 'io.containerd.cri.v1.runtime');
  const { enable_cdi, cdi_spec_dirs: dirs } =
    Object.keys(runtime).length > 0 ? runtime : table(plugins, 'io.containerd.grpc.v1.cri');
  return {
    enabled: enable_cdi === true,
    dirs: Array.isArray(dirs) ? dirs.filter((dir) => typeof dir === 'string') : [],
  };
}

function checkExports(exports: TomlTable, version: string, root: string): Finding[] {
  const findings: Finding[] = [];
  const exported = exports['root'];
  // 1.7.15 and earlier do not look there.
  if (isAtLeast(version, 1, 7, 16) && exported !== root)
    findings.push(
      warning(
        CONFIG,
        `exports.root of the proxy plug-in is ${typeof exported === 'string' ? exported : 'not set'}, thaw's root is ${root}: the kubelet measures the wrong file system`,
        `set exports.root = "${root}"`,
      ),
    );
  if (isAtLeast(version, 2, 1) && exports['enable_remote_snapshot_annotations'] !== 'true')
    findings.push(
      warning(
        CONFIG,
        "exports.enable_remote_snapshot_annotations of the proxy plug-in is not 'true': the transfer service streams no checkpoint",
        "set exports.enable_remote_snapshot_annotations = 'true'",
      ),
    );
  return findings;
}

function checkAnnotations({ annotationsDisabled }: CriSettings): Finding[] {
  return annotationsDisabled
    ? [
        failed(
          CONFIG,
          'disable_snapshot_annotations is true: thaw is not told which layer it is asked for, and every checkpoint is pulled whole',
          'set disable_snapshot_annotations = false, then restart containerd',
        ),
      ]
    : [];
}

function checkRuntime(runtime: Runtime, cri: CriSettings, name: string, version: string): Finding[] {
  const { handler, podAnnotations } = runtime;
  const ofContainers = runtime.snapshotter || cri.snapshotter;
  if (ofContainers !== name)
    return [
      failed(
        CONFIG,
        `pods of the handler ${handler} get the snapshotter ${ofContainers}: their checkpoints are pulled whole and unpacked`,
        `set snapshotter = "${name}" for the node, or for that runtime`,
      ),
    ];
  const findings: Finding[] = [];
  const platform = cri.platforms[handler];
  // containerd 2.0 to 2.2 look at the runtime for containers and not for pulls, and migrating a file of version 2 loses it.
  const ofPulls =
    isAtLeast(version, 2) && !isAtLeast(version, 2, 3)
      ? (isTable(platform) && text(platform['snapshotter'])) || cri.snapshotter
      : ofContainers;
  if (ofPulls !== name)
    findings.push(
      failed(
        CONFIG,
        `containerd ${version} pulls images for the handler ${handler} with the snapshotter ${ofPulls}, though its containers use ${name}`,
        `set [plugins.'io.containerd.cri.v1.images'.runtime_platforms.${handler}] snapshotter = '${name}', in a file of version 3`,
      ),
    );
  if (!podAnnotations.some((pattern) => pattern === 'thaw.dev/*' || pattern === '*'))
    findings.push(
      warning(
        CONFIG,
        `the handler ${handler} does not hand on thaw.dev/* annotations: thaw.dev/restore of a pod does nothing`,
        `set pod_annotations = ["thaw.dev/*"] for that runtime`,
      ),
    );
  return findings;
}

function criSettings(config: ContainerdConfig): CriSettings {
  const plugins = table(config, 'plugins');
  const images = table(plugins, 'io.containerd.cri.v1.images');
  const before = table(table(plugins, 'io.containerd.grpc.v1.cri'), 'containerd');
  const isVersion3 = config['version'] === 3 || Object.keys(images).length > 0;
  const common = isVersion3 ? images : before;
  const runtimes = isVersion3
    ? table(table(table(plugins, 'io.containerd.cri.v1.runtime'), 'containerd'), 'runtimes')
    : table(before, 'runtimes');
  return {
    snapshotter: text(common['snapshotter']) || 'overlayfs',
    annotationsDisabled: common['disable_snapshot_annotations'] === true,
    platforms: table(images, 'runtime_platforms'),
    runtimes: Object.entries(runtimes).flatMap(([handler, value]) =>
      isTable(value)
        ? [
            {
              handler,
              type: text(value['runtime_type']),
              path: text(value['runtime_path']),
              snapshotter: text(value['snapshotter']),
              podAnnotations: Array.isArray(value['pod_annotations'])
                ? value['pod_annotations'].filter((entry) => typeof entry === 'string')
                : [],
            },
          ]
        : [],
    ),
  };
}

function table(parent: TomlTable, key: string): TomlTable {
  const value = parent[key];
  return isTable(value) ? value : {};
}

function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date);
}

function text(value: TomlValue | undefined): string {
  return typeof value === 'string' ? value : '';
}
