/** Statistics and limits of a running container. cgroup v1 is what test nodes have. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { PeerName } from './peer.ts';
import { NAMESPACE } from './rig.ts';
import { withRig } from './with-rig.ts';

export function resourceCases(name: PeerName): void {
  const cgroup = (controller: string, id: string, file: string) =>
    readFileSync(`/sys/fs/cgroup/${controller}/${NAMESPACE}/${id}/${file}`, 'utf8').trim();

  describe('resources', () => {
    const at = withRig(name);

    it('gives statistics of the container’s cgroup', async () => {
      const task = await at.rig.run();
      const { type_url, value } = await task.client.stats();
      expect(type_url).toBe('io.containerd.cgroups.v1.Metrics');
      expect(value.length).toBeGreaterThan(100);
    });

    it('applies new limits to the running container', async () => {
      const task = await at.rig.run();
      await task.client.update({ memory: { limit: 64 << 20 }, pids: { limit: 55 } });
      expect(cgroup('memory', task.id, 'memory.limit_in_bytes')).toBe(String(64 << 20));
      expect(cgroup('pids', task.id, 'pids.max')).toBe('55');
      expect(task.events).toEqual(['create', 'start']);
    });
  });
}
