/** What a Prometheus server reads of a node on which containers are restored and started cold. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { freePort, until } from './lib/index.ts';
import { KubeletNode, type Pod } from './lib/kubelet-node.ts';

const command = ['/bin/sh', '-c', 'while :; do sleep 0.1; done'];

let node: KubeletNode;
let address: string;
let warm: string;

beforeAll(async () => {
  address = `127.0.0.1:${await freePort()}`;
  node = await KubeletNode.start({ config: { metrics: { address } } });
  const cold = await node.pushImage('test/metrics', [], command);
  const pod = await node.runPod({ image: cold, command });
  warm = await node.checkpoint(pod, 'test/metrics');
  await node.removePod(pod);
  await node.forget(warm);
});
afterAll(() => node.stop());

/** Values by name and labels, as the text format has them. */
async function scrape(): Promise<Map<string, number>> {
  const answer = await fetch(`http://${address}/metrics`);
  expect(answer.status).toBe(200);
  const samples = (await answer.text()).split('\n').filter((line) => line.startsWith('thaw_'));
  return new Map(
    samples.map((line) => [
      line.slice(0, line.lastIndexOf(' ')),
      Number(line.slice(line.lastIndexOf(' ') + 1)),
    ]),
  );
}

/** How much each sample has grown since `before` once `name` has. */
async function growthSince(before: Map<string, number>, name: string): Promise<(name: string) => number> {
  return until(`${name} to grow`, async () => {
    const now = await scrape();
    const growth = (sample: string) => (now.get(sample) ?? 0) - (before.get(sample) ?? 0);
    return growth(name) > 0 && growth;
  });
}

async function start(request: Partial<Parameters<KubeletNode['runPod']>[0]> = {}): Promise<Pod> {
  return node.runPod({ image: warm, command, ...request });
}

it('counts restores, cold starts and refusals, where bytes came from and what containerd asked for', async () => {
  const empty = await scrape();
  const restored = await start();
  const filled = await growthSince(empty, 'thaw_restores_total{outcome="filled",phase="memory"}');
  expect(filled('thaw_restores_total{outcome="restored",phase="restore"}')).toBe(1);
  for (const phase of ['plan', 'fetch', 'restore', 'memory'])
    expect(filled(`thaw_restore_seconds_count{phase="${phase}"}`)).toBe(1);
  expect(filled('thaw_restore_seconds_sum{phase="restore"}')).toBeGreaterThan(0);
  // All of it came over the network, and once.
  const now = await scrape();
  const stored = [...now].find(([name]) => name.startsWith('thaw_checkpoint_bytes{'))?.[1];
  expect(stored).toBeGreaterThan(0);
  expect(filled('thaw_fetch_bytes_total{source="registry"}')).toBeGreaterThanOrEqual(stored ?? 0);
  expect(filled('thaw_fetches_total{result="complete"}')).toBe(1);
  expect(filled('thaw_fetch_seconds_count')).toBe(1);
  expect(now.get('thaw_cache_bytes')).toBeGreaterThan(0);
  expect(now.get('thaw_checkpoints{state="complete"}')).toBe(1);
  // The checkpoint's layers were answered for, the others unpacked or shared.
  expect(filled('thaw_snapshot_rpcs_total{rpc="Prepare",code="AlreadyExists"}')).toBeGreaterThanOrEqual(2);
  expect(filled('thaw_snapshot_rpcs_total{rpc="Prepare",code="OK"}')).toBeGreaterThan(0);
  expect(filled('thaw_snapshot_rpc_seconds_count{rpc="Mounts"}')).toBeGreaterThan(0);
  await node.removePod(restored);

  const here = await scrape();
  const again = await start();
  const second = await growthSince(here, 'thaw_restores_total{outcome="restored",phase="restore"}');
  expect(second('thaw_fetch_bytes_total{source="registry"}')).toBe(0);
  expect(second('thaw_fetch_bytes_total{source="cache"}')).toBe(stored);
  await node.removePod(again);

  const before = await scrape();
  const cold = await start({ env: { MODE: 'x' } });
  await growthSince(before, 'thaw_restores_total{outcome="cold",phase="plan"}');
  await node.removePod(cold);
  const required = { env: { MODE: 'x' }, annotations: { 'thaw.dev/restore': 'require' } };
  const refused = await node.createPod({ image: warm, command, ...required });
  await expect(node.cri.startContainer(refused.containerId)).rejects.toThrow('require');
  await growthSince(before, 'thaw_restores_total{outcome="refused",phase="plan"}');
  await node.removePod(refused);
  expect(node.snapshotterLog()).toMatch(/"outcome":"cold","phase":"plan","reason":"[^"]*MODE.*"start"/);
});

it('counts what went out of the cache, and fetches that fail, by what was wrong', async () => {
  const before = await scrape();
  await node.forget(warm);
  const gone = await growthSince(before, 'thaw_cache_removed_total{reason="evicted"}');
  expect(gone('thaw_cache_removed_bytes_total{reason="evicted"}')).toBeGreaterThan(0);

  // The image stays, without its checkpoint: the next start fetches that again.
  await node.removePod(await start());
  const { checkpoints } = JSON.parse((await node.thaw(['status', '--json'])).stdout) as {
    checkpoints: { id: string }[];
  };
  await until('the cache entry to be free', async () => {
    const done = await node.thaw(['evict', checkpoints[0]?.id ?? ''], { allowFailure: true });
    return done.code === 0;
  });
  const failing = await scrape();
  await node.registry.halt();
  const starting = start();
  try {
    const failed = await growthSince(failing, 'thaw_fetch_errors_total{kind="network"}');
    expect(failed('thaw_fetches_total{result="failed"}')).toBeGreaterThan(0);
  } finally {
    await node.registry.restart();
    await node.removePod(await starting);
  }
});
