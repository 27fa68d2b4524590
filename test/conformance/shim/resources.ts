/** Statistics and limits of a running container. cgroup v1 is what test nodes have. */
import { readFileSync } from 'node:fs';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Peer, type PeerName, peer as peerOf } from './peer.ts';
import { NAMESPACE, Rig } from './rig.ts';

export function resourceCases(name: PeerName): void {
  let peer: Peer;
  let rig: Rig;
  beforeAll(async () => {
    peer = await peerOf(name);
  });
  beforeEach(async () => {
    rig = await Rig.start(peer);
  });
  afterEach(() => rig.close());

  const cgroup = (controller: string, id: string, file: string) =>
    readFileSync(`/sys/fs/cgroup/${controller}/${NAMESPACE}/${id}/${file}`, 'utf8').trim();

  describe('resources', () => {
    it('gives statistics of the container’s cgroup', async () => {
      const task = await rig.run();
      const { type_url, value } = await task.client.stats();
      expect(type_url).toBe('io.containerd.cgroups.v1.Metrics');
      expect(value.length).toBeGreaterThan(100);
    });

    it('applies new limits to the running container', async () => {
      const task = await rig.run();
      await task.client.update({ memory: { limit: 64 << 20 }, pids: { limit: 55 } });
      expect(cgroup('memory', task.id, 'memory.limit_in_bytes')).toBe(String(64 << 20));
      expect(cgroup('pids', task.id, 'pids.max')).toBe('55');
      expect(task.events).toEqual(['create', 'start']);
    });
  });
}
