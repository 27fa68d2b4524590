import { randomBytes } from 'node:crypto';
import { type Caller, serviceMethods } from './caller.ts';

const { call } = serviceMethods('leases/v1/leases.proto', 'containerd.services.leases.v1.Leases');

export interface Lease {
  id: string;
  labels: Readonly<Record<string, string>>;
}

export function leases(caller: Caller) {
  return {
    /**
     * Keeps what is made in it from garbage collection. It expires by itself, so that a killed program leaves nothing
     * for ever. Source of the label: containerd's metadata/gc.go.
     */
    async create(options: { lifetimeMs: number; name: string }): Promise<Lease> {
      const id = `${options.name}-${randomBytes(8).toString('hex')}`;
      const expires = new Date(Date.now() + options.lifetimeMs).toISOString();
      const labels = { 'containerd.io/gc.expire': expires };
      await call(caller, 'Create', { id, labels }, { action: 'make a lease' });
      return { id, labels };
    },
    /**
     * Keeps what may be there already in the lease of the caller: what is found after it does not go away. `type` is "content",
     * or "snapshots/" and the snapshotter. Source: containerd's metadata/leases.go.
     */
    async keep(type: string, resource: string): Promise<void> {
      const { lease } = caller.scope;
      if (lease === undefined) return;
      const request = { id: lease, resource: { type, id: resource } };
      await call(caller, 'AddResource', request, { action: `keep ${resource} in the lease` });
    },
    async list(): Promise<Lease[]> {
      const answer = await call<{ leases: Lease[] }>(
        caller,
        'List',
        { filters: [] },
        { action: 'list leases' },
      );
      return answer.leases.map(({ id, labels }) => ({ id, labels }));
    },
    async remove(id: string, options: { sync?: boolean } = {}): Promise<void> {
      const request = { id, sync: options.sync ?? false };
      await call(caller, 'Delete', request, { action: `delete the lease ${id}`, deadlineMs: 120_000 });
    },
  };
}
