import { type Caller, serviceMethods } from './caller.ts';
import type { Mount, SnapshotInfo } from './types.ts';

const { call, stream } = serviceMethods(
  'snapshots/v1/snapshots.proto',
  'containerd.services.snapshots.v1.Snapshots',
);

/** Snapshots of one snapshotter, through containerd's metadata: names are those of the namespace. */
export function snapshots(caller: Caller, snapshotter: string) {
  return {
    async stat(key: string): Promise<SnapshotInfo> {
      const action = `read the snapshot ${key} of ${snapshotter}`;
      const answer = await call<{ info: SnapshotInfo }>(caller, 'Stat', { snapshotter, key }, { action });
      return answer.info;
    },
    async list(): Promise<SnapshotInfo[]> {
      const action = `list the snapshots of ${snapshotter}`;
      const found: SnapshotInfo[] = [];
      for await (const page of stream<{ info: SnapshotInfo[] }>(caller, 'List', { snapshotter }, { action }))
        found.push(...page.info);
      return found;
    },
    async mounts(key: string): Promise<Mount[]> {
      const action = `read the mounts of the snapshot ${key}`;
      const answer = await call<{ mounts: Mount[] }>(caller, 'Mounts', { snapshotter, key }, { action });
      return answer.mounts;
    },
    /** A read-only look at a committed snapshot; the caller removes it. */
    async view(key: string, parent: string, labels: Record<string, string> = {}): Promise<Mount[]> {
      const action = `make a view of the snapshot ${parent}`;
      const request = { snapshotter, key, parent, labels };
      return (await call<{ mounts: Mount[] }>(caller, 'View', request, { action })).mounts;
    },
    /** A writable snapshot; the caller removes it. */
    async prepare(key: string, parent: string, labels: Record<string, string> = {}): Promise<Mount[]> {
      const action = `make a snapshot on ${parent}`;
      const request = { snapshotter, key, parent, labels };
      return (await call<{ mounts: Mount[] }>(caller, 'Prepare', request, { action })).mounts;
    },
    /** Makes what was prepared as `key` a layer of that name. */
    async commit(name: string, key: string): Promise<void> {
      await call(caller, 'Commit', { snapshotter, name, key }, { action: `commit the snapshot ${name}` });
    },
    async remove(key: string): Promise<void> {
      await call(caller, 'Remove', { snapshotter, key }, { action: `remove the snapshot ${key}` });
    },
  };
}
