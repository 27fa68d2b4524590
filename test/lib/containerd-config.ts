/**
 * Configuration of a containerd in a test node: the fragment of deploy/containerd that administrators get, and on top
 * of it what only a node without systemd, with loopback alone and without CAP_SYS_RESOURCE needs.
 */
import { parse, stringify, type TomlTable } from 'smol-toml';
import { mergeTables } from '../../cli/install/toml-edit.ts';

export type ContainerdVersion = '1.7' | '2';

export interface ContainerdPaths {
  /** Persistent data, on a real disk. */
  root: string;
  /** Sockets and running containers' state, on tmpfs. */
  state: string;
  socket: string;
  cniConf: string;
  snapshotterSocket: string;
  snapshotterRoot: string;
}

export interface CriSettings {
  /** Image of the pause container, as `RunPodSandbox` will pull it. */
  sandboxImage: string;
}

/** The text of config.toml. `fragment` is the text of deploy/containerd/containerd-*.toml; `extra` wins over all. */
export function containerdConfig(
  version: ContainerdVersion,
  fragment: string,
  paths: ContainerdPaths,
  cri: CriSettings,
  extra: TomlTable = {},
): string {
  const node: TomlTable = {
    root: paths.root,
    state: paths.state,
    grpc: { address: paths.socket },
    ttrpc: { address: `${paths.socket}.ttrpc` },
    // Shims are found on the PATH; other programs may not be put below /opt behind the test's back.
    ...(fragment.includes('proxy_plugins') ? { proxy_plugins: ourPlugin(paths) } : {}),
    plugins: {
      'io.containerd.internal.v1.opt': { path: `${paths.root}/opt` },
      'io.containerd.nri.v1.nri': { disable: true },
      ...(version === '2' ? criVersion2(paths, cri) : criVersion17(paths, cri)),
    },
  };
  return stringify(mergeTables(mergeTables(parse(fragment), node), extra));
}

/** A drop-in as a file of its own, with this node's socket and root. */
export function importedConfig(fragment: string, paths: ContainerdPaths): string {
  return stringify(mergeTables(parse(fragment), { proxy_plugins: ourPlugin(paths) }));
}

function ourPlugin({ snapshotterSocket, snapshotterRoot }: ContainerdPaths): TomlTable {
  return { thaw: { address: snapshotterSocket, exports: { root: snapshotterRoot } } };
}

const runc: TomlTable = { runtime_type: 'io.containerd.runc.v2', options: { SystemdCgroup: false } };
// Without CAP_SYS_RESOURCE runc cannot lower oom_score_adj, and the container's start fails.
const rights: TomlTable = { restrict_oom_score_adj: true, disable_apparmor: true };

function criVersion2(paths: ContainerdPaths, cri: CriSettings): TomlTable {
  return {
    'io.containerd.cri.v1.images': { pinned_images: { sandbox: cri.sandboxImage } },
    'io.containerd.cri.v1.runtime': {
      ...rights,
      cni: { bin_dirs: ['/usr/lib/cni'], conf_dir: paths.cniConf },
      containerd: { default_runtime_name: 'runc', runtimes: { runc } },
    },
    'io.containerd.grpc.v1.cri': { disable_tcp_service: true },
  };
}

function criVersion17(paths: ContainerdPaths, cri: CriSettings): TomlTable {
  return {
    'io.containerd.grpc.v1.cri': {
      ...rights,
      disable_tcp_service: true,
      sandbox_image: cri.sandboxImage,
      cni: { bin_dir: '/usr/lib/cni', conf_dir: paths.cniConf },
      containerd: { default_runtime_name: 'runc', runtimes: { runc } },
    },
  };
}

/** A bridge with addresses handed out from files, as on a small cluster; no masquerading, there is nowhere to go. */
export function bridgeNetwork(stateDir: string): string {
  return JSON.stringify({
    cniVersion: '1.0.0',
    name: 'thaw-test',
    plugins: [
      {
        type: 'bridge',
        bridge: 'thaw0',
        isGateway: true,
        ipMasq: false,
        ipam: {
          type: 'host-local',
          dataDir: `${stateDir}/cni`,
          ranges: [[{ subnet: '10.88.0.0/16' }]],
          routes: [{ dst: '0.0.0.0/0' }],
        },
      },
    ],
  });
}
