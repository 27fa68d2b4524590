import { readFile, readlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Code, describeError } from '../../proto/status.ts';
import type { Container, Containerd } from '../containerd/index.ts';
import { CliError } from '../error.ts';

export const SHIM_PROGRAM = 'containerd-shim-thaw-v2';
export const RUNTIME_NAME = 'io.containerd.runc.thaw.v2';

/** Where containerd keeps bundles unless it is configured otherwise. */
const DEFAULT_BUNDLES = '/run/containerd/io.containerd.runtime.v2.task';

export interface RunningContainer {
  container: Container;
  /** Of its first process, in the PID namespace that containerd sees. */
  pid: number;
  /** Somebody else paused it; it stays so. */
  paused: boolean;
}

/** The container, checked to be one that can be saved now. */
export async function findRunning(containerd: Containerd, name: string): Promise<RunningContainer> {
  const container = await findContainer(containerd, name);
  if (container.labels['io.cri-containerd.kind'] === 'sandbox')
    throw new CliError(
      Code.invalidArgument,
      `${name} is a pod's sandbox, which runs nothing worth saving: name a container of the pod`,
    );
  const { pid, status } = await taskOf(containerd, container.id);
  if (status !== 'RUNNING' && status !== 'PAUSED')
    throw new CliError(
      Code.failedPrecondition,
      `Cannot save ${name}: it is ${status.toLowerCase()}; only a running container can be saved`,
    );
  if (!(await usesThaw(containerd, container, pid)))
    throw new CliError(
      Code.failedPrecondition,
      `Cannot save ${name}: its runtime is ${container.runtime}; start it with runtimeClassName: thaw (runtime ${RUNTIME_NAME})`,
    );
  return { container, pid, paused: status === 'PAUSED' };
}

async function taskOf(containerd: Containerd, id: string) {
  try {
    return await containerd.tasks.get(id);
  } catch (error) {
    if (describeError(error).code !== Code.notFound) throw error;
    throw new CliError(
      Code.failedPrecondition,
      `Cannot save ${id}: it does not run; start it and wait until it serves`,
    );
  }
}

/** By exact id, by the first characters if only one container's id begins so, or by its pod. */
async function findContainer(containerd: Containerd, asked: string): Promise<Container> {
  // As Kubernetes has it in a pod's status.
  const name = asked.replace(/^containerd:\/\//, '');
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*){0,2}$/.test(name))
    throw new CliError(
      Code.invalidArgument,
      `Cannot look for a container "${asked}": give an id, POD, NAMESPACE/POD or NAMESPACE/POD/CONTAINER`,
    );
  const all = await containerd.containers.list();
  const matches = matchContainers(all, name);
  const [only, ...others] = matches;
  if (only !== undefined && others.length === 0) return only;
  if (only === undefined) return findInPod(containerd, name, all);
  const ids = matches.map(({ id }) => id.slice(0, Math.max(13, name.length + 4)));
  throw new CliError(
    Code.invalidArgument,
    `${name} could be any of ${matches.length} containers (${ids.slice(0, 4).join(', ')}${ids.length > 4 ? ', …' : ''}): give more characters of the id`,
  );
}

export function matchContainers<T extends { id: string }>(all: readonly T[], name: string): T[] {
  const exact = all.filter(({ id }) => id === name);
  return exact.length > 0 ? exact : all.filter(({ id }) => id.startsWith(name));
}

/** The one that runs: those that ended before it was restarted are there too. */
async function findInPod(
  containerd: Containerd,
  name: string,
  all: readonly Container[],
): Promise<Container> {
  const running: Container[] = [];
  for (const container of matchPod(all, name)) {
    const { status } = await taskOf(containerd, container.id).catch(() => ({ status: '' }));
    if (status === 'RUNNING' || status === 'PAUSED') running.push(container);
  }
  const [only, ...others] = running;
  if (only === undefined) throw await unknownContainer(containerd, name);
  if (others.length === 0) return only;
  const names = running.map(({ labels }) => {
    const pod = `${labels[LABEL.namespace]}/${labels[LABEL.pod]}`;
    return `${pod}/${labels[LABEL.container]}`;
  });
  throw new CliError(
    Code.invalidArgument,
    `${name} has ${running.length} containers: name one of ${names.sort().join(', ')}`,
  );
}

/** Labels that a kubelet gives each container. Source: Kubernetes, pkg/kubelet/types/labels.go. */
const LABEL = {
  pod: 'io.kubernetes.pod.name',
  namespace: 'io.kubernetes.pod.namespace',
  container: 'io.kubernetes.container.name',
} as const;

/** Containers of a pod, by `POD`, `NAMESPACE/POD` or `NAMESPACE/POD/CONTAINER`; its sandbox has no such name. */
export function matchPod<T extends { labels: Readonly<Record<string, string>> }>(
  all: readonly T[],
  name: string,
): T[] {
  const [first = '', pod = first, container] = name.split('/');
  const namespace = name.includes('/') ? first : undefined;
  return all.filter(
    ({ labels }) =>
      labels[LABEL.pod] === pod &&
      labels[LABEL.container] !== undefined &&
      (namespace === undefined || labels[LABEL.namespace] === namespace) &&
      (container === undefined || labels[LABEL.container] === container),
  );
}

async function unknownContainer(containerd: Containerd, name: string): Promise<CliError> {
  const { namespace } = containerd;
  for (const other of await containerd.namespaces()) {
    if (other === namespace) continue;
    const found = await containerd.within({ namespace: other }).containers.list();
    if (matchContainers(found, name).length > 0)
      return new CliError(
        Code.notFound,
        `Cannot find a container ${name} in the namespace ${namespace}; there is one in ${other}: add --namespace ${other}`,
      );
  }
  return new CliError(
    Code.notFound,
    `Cannot find a container ${name} in the namespace ${namespace}, nor a pod that runs here: 'crictl ps' or 'ctr --namespace ${namespace} containers list' show what there is`,
  );
}

/**
 * By the runtime's name; or by the shim that containerd was told to run under another name (runtime_path of CRI),
 * which it notes in the bundle.
 */
async function usesThaw(containerd: Containerd, container: Container, pid: number): Promise<boolean> {
  if (container.runtime === RUNTIME_NAME || basename(container.runtime) === SHIM_PROGRAM) return true;
  const bundles = [await bundlesOfShim(pid), join(DEFAULT_BUNDLES, containerd.namespace)];
  for (const dir of bundles) {
    if (dir === undefined) continue;
    const path = await readFile(join(dir, container.id, 'shim-binary-path'), 'utf8').catch(() => undefined);
    if (path !== undefined) return basename(path.trim()) === SHIM_PROGRAM;
  }
  return false;
}

/** A shim's working directory is the bundle of its first container; its siblings are those of the others. */
async function bundlesOfShim(pid: number): Promise<string | undefined> {
  try {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    const parent = /^PPid:\s+(\d+)$/m.exec(status)?.[1];
    return parent === undefined ? undefined : dirname(await readlink(`/proc/${parent}/cwd`));
  } catch {
    // The process ended, or is not visible here: the next step says so better.
    return undefined;
  }
}
