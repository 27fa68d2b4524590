/**
 * What a kubelet with default settings sends for a pod of one container, as pure data.
 * Source: Kubernetes' pkg/kubelet/kuberuntime (labels, annotations, cgroup names, log paths, masked paths) and
 * pkg/kubelet/kubelet_pods.go (mounts, service environment).
 */
import type { ContainerConfig, Mount, PodSandboxConfig } from './messages.ts';

export interface PodOptions {
  name: string;
  namespace?: string;
  uid: string;
  hostname?: string;
  runtimeHandler: string;
  annotations?: Record<string, string>;
  shareProcessNamespace?: boolean;
  /** TCP ports the containers listen on. */
  ports?: number[];
}

export interface ContainerOptions {
  name: string;
  attempt?: number;
  /** As in the pod's manifest. */
  image: string;
  /** What PullImage returned. */
  imageRef: string;
  command?: string[];
  args?: string[];
  env?: Record<string, string>;
  /** Variables that have a field of the pod, as `valueFrom.fieldRef`. */
  fieldEnv?: Record<string, 'metadata.name' | 'metadata.uid'>;
  mounts?: Mount[];
  /** Names of CDI devices, as a device plug-in answers them. */
  devices?: string[];
  /** Bytes; no limit if absent. */
  memoryLimit?: bigint;
  seccomp?: 'RuntimeDefault' | 'Unconfined';
  readonlyRootfs?: boolean;
  runAsUser?: number;
  /** Default 1000, that of a burstable pod without requests. */
  oomScoreAdj?: number;
  /** Paths of the host, at the same paths in the container. */
  hostDevices?: string[];
  /** Default true, as without `procMount: Unmasked`. */
  masked?: boolean;
}

/** Cgroup of a burstable pod under the cgroupfs driver. The kubelet makes and removes it. */
export function podCgroup(uid: string): string {
  return `/kubepods/burstable/pod${uid}`;
}

const podNamespaces = { network: 'POD', pid: 'CONTAINER', ipc: 'POD' } as const;

export function podConfig(options: PodOptions): PodSandboxConfig {
  const namespace = options.namespace ?? 'default';
  return {
    metadata: { name: options.name, uid: options.uid, namespace, attempt: 0 },
    hostname: options.hostname ?? options.name,
    logDirectory: `/var/log/pods/${namespace}_${options.name}_${options.uid}`,
    dnsConfig: {
      servers: ['10.96.0.10'],
      searches: [`${namespace}.svc.cluster.local`, 'svc.cluster.local', 'cluster.local'],
      options: ['ndots:5'],
    },
    portMappings: (options.ports ?? []).map((containerPort) => ({ protocol: 'TCP', containerPort })),
    labels: podLabels(options.name, namespace, options.uid),
    annotations: {
      'kubernetes.io/config.source': 'api',
      'io.containerd.cri.runtime-handler': options.runtimeHandler,
      ...options.annotations,
    },
    linux: {
      cgroupParent: podCgroup(options.uid),
      securityContext: {
        namespaceOptions: options.shareProcessNamespace ? { ...podNamespaces, pid: 'POD' } : podNamespaces,
        seccomp: { profileType: 'RuntimeDefault' },
      },
      sysctls: {},
      resources: { cpuPeriod: 100_000n, cpuShares: 2n },
    },
  };
}

export function containerConfig(pod: PodSandboxConfig, options: ContainerOptions): ContainerConfig {
  const { name, namespace, uid } = pod.metadata;
  const attempt = options.attempt ?? 0;
  const { masked = true } = options;
  const fields = Object.fromEntries(
    Object.entries(options.fieldEnv ?? {}).map(([key, field]) => [
      key,
      field === 'metadata.uid' ? uid : name,
    ]),
  );
  return {
    metadata: { name: options.name, attempt },
    image: { image: options.imageRef, userSpecifiedImage: options.image },
    ...(options.command && { command: options.command }),
    ...(options.args && { args: options.args }),
    envs: Object.entries({ ...options.env, ...fields, ...serviceEnvironment }).map(([key, value]) => {
      return { key, value };
    }),
    mounts: options.mounts ?? [],
    CDIDevices: (options.devices ?? []).map((name) => ({ name })),
    devices: (options.hostDevices ?? []).map((path) => ({
      ...{ containerPath: path, hostPath: path, permissions: 'rwm' },
    })),
    labels: { ...podLabels(name, namespace, uid), 'io.kubernetes.container.name': options.name },
    annotations: {
      'io.kubernetes.container.restartCount': String(attempt),
      'io.kubernetes.container.terminationMessagePath': '/dev/termination-log',
      'io.kubernetes.container.terminationMessagePolicy': 'File',
      'io.kubernetes.pod.terminationGracePeriod': '30',
    },
    logPath: `${options.name}/${attempt}.log`,
    linux: {
      resources: {
        cpuPeriod: 100_000n,
        cpuShares: 102n,
        oomScoreAdj: BigInt(options.oomScoreAdj ?? 1000),
        ...(options.memoryLimit !== undefined && { memoryLimitInBytes: options.memoryLimit }),
      },
      securityContext: {
        // A container is in the namespaces that its pod is for.
        namespaceOptions: pod.linux.securityContext.namespaceOptions,
        seccomp: { profileType: options.seccomp ?? 'Unconfined' },
        maskedPaths: masked ? maskedPaths : [],
        readonlyPaths: masked ? readonlyPaths : [],
        ...(options.readonlyRootfs && { readonlyRootfs: true }),
        ...(options.runAsUser !== undefined && { runAsUser: { value: BigInt(options.runAsUser) } }),
      },
    },
  };
}

function podLabels(name: string, namespace: string, uid: string): Record<string, string> {
  return {
    'io.kubernetes.pod.name': name,
    'io.kubernetes.pod.namespace': namespace,
    'io.kubernetes.pod.uid': uid,
  };
}

/** Every pod has the API server's service in its environment. */
const serviceEnvironment = {
  KUBERNETES_SERVICE_HOST: '10.96.0.1',
  KUBERNETES_SERVICE_PORT: '443',
  KUBERNETES_SERVICE_PORT_HTTPS: '443',
  KUBERNETES_PORT: 'tcp://10.96.0.1:443',
  KUBERNETES_PORT_443_TCP: 'tcp://10.96.0.1:443',
  KUBERNETES_PORT_443_TCP_PROTO: 'tcp',
  KUBERNETES_PORT_443_TCP_PORT: '443',
  KUBERNETES_PORT_443_TCP_ADDR: '10.96.0.1',
};

const maskedPaths = [
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
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];
