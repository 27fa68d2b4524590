import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import type { CacheEntry } from '../cache/index.ts';
import type { HealthChecks } from '../health.ts';
import { Metrics, MetricsServer } from './index.ts';

const entry = (id: string, kind: string, present: bigint) =>
  ({
    id,
    state: { kind },
    bytes: 200n,
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
  it('are those of docs/operations.md, with their kinds and labels', async () => {
    const table = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8')
      .split('| metric | kind | meaning |')[1]
      ?.split('\n\n')[0];
    const documented = [...(table ?? '').matchAll(/^\| (`thaw_[^|]+) \| (\w+) \| [^|]+ \|$/gm)].flatMap(
      ([, names = '', kind]) =>
        [...names.matchAll(/`(\w+)(?:\{([\w,]+)\})?`/g)].map(([, name, labels = '']) => ({
          name,
          kind,
          labels: labels.split(',').filter((label) => label !== ''),
        })),
    );
    // One that is only there with a limit, and some that are only there with a checkpoint.
    metrics = new Metrics({ entries: () => [entry('sha256:1', 'complete', 1n)] }, 1);
    const text = await metrics.render();
    const kinds = [...text.matchAll(/^# TYPE (thaw_\w+) (\w+)$/gm)];
    const found = kinds.map(([, name = '', kind]) => {
      const sample = new RegExp(`^${name}(?:_count)?(?:\\{(.*)\\})? `, 'm').exec(text)?.[1] ?? '';
      return { name, kind, labels: [...sample.matchAll(/(\w+)="/g)].map(([, label]) => label) };
    });
    const byName = (a: { name?: string | undefined }, b: { name?: string | undefined }) =>
      (a.name ?? '') < (b.name ?? '') ? -1 : 1;
    expect(found.length).toBeGreaterThan(10);
    expect(documented.sort(byName)).toEqual(found.sort(byName));
  });

  it('are all there, as zeros, before anything happens', async () => {
    expect(await lines()).toEqual(
      expect.arrayContaining([
        'thaw_fetch_bytes_total{source="registry"} 0',
        'thaw_fetches_total{result="failed"} 0',
        'thaw_cache_removed_total{reason="evicted"} 0',
        'thaw_checkpoints{state="fetching"} 0',
        'thaw_fetch_errors_total{kind="credentials"} 0',
        'thaw_snapshot_rpcs_total{rpc="Cleanup",code="OK"} 0',
        'thaw_snapshot_rpc_seconds_count{rpc="Prepare"} 0',
        'thaw_restores_total{outcome="lost",phase="memory"} 0',
        'thaw_restore_seconds_count{phase="fetch"} 0',
        'thaw_cache_bytes 0',
      ]),
    );
  });

  it('count bytes by source, attempts by result, and time only what arrived', async () => {
    const { fetches } = metrics;
    fetches.read('registry', 5);
    fetches.read('registry', 7);
    fetches.read('unpacked', 3);
    fetches.completed(2_000);
    fetches.failed('throttled');
    fetches.indexFailed('throttled');
    fetches.removed('displaced', 9);
    expect(await lines()).toEqual(
      expect.arrayContaining([
        'thaw_fetch_bytes_total{source="registry"} 12',
        'thaw_fetch_bytes_total{source="unpacked"} 3',
        'thaw_fetches_total{result="complete"} 1',
        'thaw_fetches_total{result="failed"} 1',
        'thaw_fetch_seconds_sum 2',
        'thaw_fetch_seconds_count 1',
        'thaw_fetch_errors_total{kind="throttled"} 2',
        'thaw_cache_removed_total{reason="displaced"} 1',
        'thaw_cache_removed_bytes_total{reason="displaced"} 9',
      ]),
    );
  });

  it('count calls by code, and time them', async () => {
    metrics.rpcs.answered('Prepare', Code.ok, 2);
    metrics.rpcs.answered('Prepare', Code.alreadyExists, 40);
    expect(await lines()).toEqual(
      expect.arrayContaining([
        'thaw_snapshot_rpcs_total{rpc="Prepare",code="OK"} 1',
        'thaw_snapshot_rpcs_total{rpc="Prepare",code="AlreadyExists"} 1',
        'thaw_snapshot_rpc_seconds_bucket{le="0.0025",rpc="Prepare"} 1',
        'thaw_snapshot_rpc_seconds_count{rpc="Prepare"} 2',
      ]),
    );
  });

  it('count starts by how and where they were decided', async () => {
    const subject = { namespace: 'n', containerId: 'c', checkpointId: '', reason: '' };
    const times = [
      { phase: 'plan' as const, ms: 20 },
      { phase: 'fetch' as const, ms: 3_000 },
    ];
    metrics.starts.told({ ...subject, outcome: 'failed', phase: 'restore', times });
    metrics.starts.told({ ...subject, outcome: 'cold', phase: 'plan', times: [] });
    expect(await lines()).toEqual(
      expect.arrayContaining([
        'thaw_restores_total{outcome="failed",phase="restore"} 1',
        'thaw_restores_total{outcome="cold",phase="plan"} 1',
        'thaw_restores_total{outcome="restored",phase="restore"} 0',
        'thaw_restore_seconds_sum{phase="fetch"} 3',
        'thaw_restore_seconds_count{phase="restore"} 0',
      ]),
    );
  });

  it('show each checkpoint as it is now, and none that has gone', async () => {
    entries = [entry('sha256:aa', 'fetching', 40n), entry('sha256:bb', 'complete', 100n)];
    expect(await lines()).toEqual(
      expect.arrayContaining([
        'thaw_checkpoints{state="fetching"} 1',
        'thaw_checkpoints{state="complete"} 1',
        'thaw_cache_bytes 400',
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

  const well = { live: () => {}, ready: async () => {} };
  const start = async (
    source: ConstructorParameters<typeof MetricsServer>[0],
    health: HealthChecks = well,
  ) => {
    server = new MetricsServer(source, health);
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

  it('is ill where only a restart helps, and not ready where nothing can be written', async () => {
    const full = () => Promise.reject(new Error('full'));
    await start(metrics, { ...well, ready: full });
    const ask = async (path: string) => {
      const answer = await fetch(`${base}${path}`);
      return [answer.status, await answer.text()];
    };
    expect(await ask('/healthz')).toEqual([200, 'ok\n']);
    expect(await ask('/readyz')).toEqual([503, 'full\n']);
    await server.close();
    const broken = () => {
      throw new Error('broken');
    };
    await start(metrics, { live: broken, ready: well.ready });
    expect(await ask('/healthz')).toEqual([503, 'broken\n']);
    expect(await ask('/readyz')).toEqual([200, 'ok\n']);
  });

  it('says why where the metrics cannot be had', async () => {
    await start({ contentType: 'text/plain', render: () => Promise.reject(new Error('no')) });
    const answer = await fetch(`${base}/metrics`);
    expect([answer.status, await answer.text()]).toEqual([500, 'no\n']);
  });

  it('says which address it cannot have', async () => {
    await start(metrics);
    const address = new URL(base).host;
    const second = new MetricsServer(metrics, well);
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
