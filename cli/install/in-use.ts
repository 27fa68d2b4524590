/** What containerd has of thaw's: containers, images whose layers nobody else has, snapshots. */
import { Code, describeError } from '../../proto/status.ts';
import { ignoreMissing } from '../cleanup.ts';
import { type Containerd, createContainerd } from '../containerd/index.ts';
import { manifestOf } from '../containerd/manifest.ts';
import { isThaw } from '../doctor/images.ts';

/** The proxy plug-in's name in deploy/containerd. */
const SNAPSHOTTER = 'thaw';

export interface User {
  namespace: string;
  id: string;
  image: string;
}

/** Undefined where containerd does not answer. */
export async function openContainerd(options: {
  address: string;
  namespace: string;
}): Promise<Containerd | undefined> {
  try {
    const containerd = await createContainerd(options);
    try {
      await containerd.version();
      return containerd;
    } catch (error) {
      containerd.close();
      throw error;
    }
  } catch (error) {
    if (describeError(error).code === Code.canceled) throw error;
    return undefined;
  }
}

/** Containers, also those that have ended, that lie on thaw's snapshots or run under its shim. */
export async function usersOf(containerd: Containerd): Promise<User[]> {
  const found: User[] = [];
  for (const namespace of await containerd.namespaces())
    for (const { id, image, runtime, snapshotter } of await containerd
      .within({ namespace })
      .containers.list())
      if (snapshotter === SNAPSHOTTER || isThaw(runtime)) found.push({ namespace, id, image });
  return found;
}

export interface ImageName {
  namespace: string;
  name: string;
}

/**
 * Images that containerd could not unpack again, as it never had their layers: without thaw no pod could start from them, though the
 * kubelet is told that they are here.
 */
export async function imagesOnThawAlone(containerd: Containerd): Promise<ImageName[]> {
  const found: ImageName[] = [];
  for (const namespace of await containerd.namespaces()) {
    const within = containerd.within({ namespace });
    for (const { name } of await within.images.list())
      if (await lacksLayers(within, name)) found.push({ namespace, name });
  }
  return found;
}

async function lacksLayers(containerd: Containerd, name: string): Promise<boolean> {
  try {
    const { config, layers } = await manifestOf(containerd, name);
    const labels = (await containerd.content.find(config.digest))?.labels ?? {};
    if (labels[`containerd.io/gc.ref.snapshot.${SNAPSHOTTER}`] === undefined) return false;
    for (const { digest } of layers) if ((await containerd.content.find(digest)) === undefined) return true;
    return false;
  } catch (error) {
    if (describeError(error).code === Code.canceled) throw error;
    // What is not all there, and not on thaw either, was so before.
    return false;
  }
}

/** Every snapshot that containerd knows of thaw, from the tops down: what it keeps would name data that is gone. */
export async function removeSnapshots(containerd: Containerd): Promise<number> {
  let removed = 0;
  for (const namespace of await containerd.namespaces()) {
    const snapshots = containerd.within({ namespace }).snapshots(SNAPSHOTTER);
    for (let left = await snapshots.list(); left.length > 0; left = await snapshots.list()) {
      const parents = new Set(left.map(({ parent }) => parent));
      const tops = left.filter(({ name }) => !parents.has(name));
      for (const { name } of tops) await ignoreMissing(snapshots.remove(name));
      removed += tops.length;
    }
  }
  return removed;
}
