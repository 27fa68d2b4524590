import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import type { CacheEntry } from '../cache/index.ts';
import { Metrics, MetricsServer } from './index.ts';

const entry = (id: string, kind: string, present: bigint) =>
  ({
    id,
    state: { kind },
    progress: { storedBytes: 100n, presentBytes: present, fetchedBytes: 0n, localBytes: 0n, wantedChunks: 2 },
  }) as unknown as CacheEntry;

let entries: CacheEntry[];
let metrics: Metrics;

beforeEach(() => {
  entries = [];
  metrics = new Metrics({ entries: () => entries });
});

const lines = async () => (await metrics.render()).split('\n').filter((line) => line.startsWith('thaw_'));

describe('metrics', () => {
  it('are all there, as zeros, before anything happens', async () => {
    expect(await lines()).toEqual(
      expect.arrayContaining([
        'thaw_fetch_bytes_total{source="registry"} 0',
        'thaw_fetches_total{result="failed"} 0',
        'thaw_cache_removed_total{reason="evicted"} 0',
        'thaw_checkpoints{state="fetching"} 0',
      ]),
    );
  });

  it('count bytes by source, attempts by result, and time only what arrived', async () => {
    metrics.read('registry', 5);
    metrics.read('registry', 7);
    metrics.read('node', 3);
    metrics.fetchEnded('complete', 2_000);
    metrics.fetchEnded('failed', 0);
    metrics.removed('displaced');
    expect(await lines()).toEqual(
      expect.arrayContaining([
        'thaw_fetch_bytes_total{source="registry"} 12',
        'thaw_fetch_bytes_total{source="node"} 3',
        'thaw_fetches_total{result="complete"} 1',
        'thaw_fetches_total{result="failed"} 1',
        'thaw_fetch_seconds_sum 2',
        'thaw_fetch_seconds_count 1',
        'thaw_cache_removed_total{reason="displaced"} 1',
      ]),
    );
  });

  it('show each checkpoint as it is now, and none that has gone', async () => {
    entries = [entry('sha256:aa', 'fetching', 40n), entry('sha256:bb', 'complete', 100n)];
    expect(await lines()).toEqual(
      expect.arrayContaining([
        'thaw_checkpoints{state="fetching"} 1',
        'thaw_checkpoints{state="complete"} 1',
        'thaw_checkpoint_bytes{checkpoint="sha256:aa"} 100',
        'thaw_checkpoint_present_bytes{checkpoint="sha256:aa"} 40',
        'thaw_checkpoint_wanted_chunks{checkpoint="sha256:aa"} 2',
      ]),
    );
    entries = [];
    expect((await lines()).filter((line) => line.includes('sha256'))).toEqual([]);
  });
});

describe('the metrics server', () => {
  let server: MetricsServer;
  let base: string;

  const start = async (source: ConstructorParameters<typeof MetricsServer>[0]) => {
    server = new MetricsServer(source);
    base = `http://127.0.0.1:${await server.listen('127.0.0.1:0')}`;
  };
  afterEach(() => server.close());

  it('answers metrics and health, and nothing else', async () => {
    await start(metrics);
    const answer = await fetch(`${base}/metrics`);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, metrics.contentType]);
    expect(await answer.text()).toContain('thaw_fetches_total');
    expect(await (await fetch(`${base}/healthz`)).text()).toBe('ok\n');
    expect((await fetch(`${base}/`)).status).toBe(404);
    expect((await fetch(`${base}/metrics`, { method: 'POST' })).status).toBe(405);
  });

  it('says why where the metrics cannot be had', async () => {
    await start({ contentType: 'text/plain', render: () => Promise.reject(new Error('no')) });
    const answer = await fetch(`${base}/metrics`);
    expect([answer.status, await answer.text()]).toEqual([500, 'no\n']);
  });

  it('says which address it cannot have', async () => {
    await start(metrics);
    const address = new URL(base).host;
    const second = new MetricsServer(metrics);
    await expect(second.listen(address)).rejects.toMatchObject({
      code: Code.unavailable,
      message: expect.stringMatching(`Cannot serve metrics at ${address}: .*EADDRINUSE`),
    });
    await second.close();
  });

  it('ends though a scraper keeps its connection', async () => {
    await start(metrics);
    await (await fetch(`${base}/healthz`)).text();
    await server.close();
    await expect(fetch(`${base}/healthz`)).rejects.toThrow();
  });
});
