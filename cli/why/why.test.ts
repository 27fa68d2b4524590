import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FailedRestores } from '../../node-state/failed-restores.ts';
import { listState, pruneState } from '../../node-state/files.ts';
import { readRecords, type StartRecord, writeRecord } from '../../node-state/start-records.ts';
import { runRetry } from './retry.ts';
import { runWhy, startsOf, whyLines } from './run.ts';

let dir: string;
beforeEach(async () => {
  dir = join(await mkdtemp(join(tmpdir(), 'why-')), 'starts');
});
afterEach(() => rm(join(dir, '..'), { recursive: true }));

const record = (name: string, more: Partial<StartRecord> = {}): StartRecord => ({
  apiVersion: 'v1',
  kind: 'Event',
  metadata: {
    name: `${name}.1`,
    namespace: 'models',
    annotations: {
      'thaw.dev/container-id': `${name}-0123456789abcdef`,
      'thaw.dev/reasons': '["command line was [], now [\\"x\\"]","the CPU lacks avx\\u001b[31m"]',
      'thaw.dev/times': '{"plan":20,"fetch":30}',
    },
  },
  involvedObject: {
    kind: 'Pod',
    namespace: 'models',
    name,
    uid: `uid-${name}`,
    fieldPath: 'spec.containers{main}',
  },
  reason: 'StartedCold',
  message: 'Started cold',
  type: 'Warning',
  source: { component: 'thaw', host: 'node' },
  firstTimestamp: '2026-01-02T03:04:05.678Z',
  lastTimestamp: '2026-01-02T03:04:05.678Z',
  count: 1,
  reportingComponent: 'thaw.dev/shim',
  reportingInstance: 'node',
  ...more,
});

async function printed(run: (context: { print(line: string): void }) => Promise<void>): Promise<string[]> {
  const lines: string[] = [];
  await run({ print: (line) => void lines.push(line) });
  return lines;
}

describe('thaw why', () => {
  it('finds a pod by name, with its namespace, by uid, and by the id of a container', () => {
    const records = [record('llm-0'), record('llm-1')];
    for (const word of ['llm-1', 'models/llm-1', 'uid-llm-1', 'llm-1-0123'])
      expect(startsOf(records, word)).toEqual([records[1]]);
    for (const word of ['llm', 'other/llm-1', 'uid', ''])
      expect(() => startsOf(records, word)).toThrow('Cannot find');
  });

  it('is a table with every reason on a line of its own, made safe to print', () => {
    expect(whyLines([record('llm-0')])).toEqual([
      'TIME                  POD           CONTAINER  ID            OUTCOME       TOOK',
      '2026-01-02 03:04:05Z  models/llm-0  main       llm-0-012345  StartedCold  50 ms',
      '    command line was [], now ["x"]',
      '    the CPU lacks avx?[31m',
    ]);
    expect(whyLines([])).toEqual(['No container with a checkpoint was started on this node']);
  });

  it('reads what was written, oldest first, root’s alone, and passes over what is no record', async () => {
    writeRecord(record('second'), 2_000, dir);
    writeRecord(record('first'), 1_000, dir);
    await writeFile(join(dir, '00000000000003-x.json'), '{"kind":"Event"}');
    await writeFile(join(dir, '00000000000004-x.json'), '{');
    expect(readRecords(dir).map(({ involvedObject }) => involvedObject.name)).toEqual(['first', 'second']);
    expect((await stat(dir)).mode & 0o777).toBe(0o700);
    const name = listState(dir).find((file) => file.includes('first')) ?? '';
    expect((await stat(join(dir, name))).mode & 0o777).toBe(0o600);
    const [json = ''] = await printed((context) => runWhy({ pod: 'first', json: true }, context, dir));
    expect(JSON.parse(json)).toEqual({ apiVersion: 'v1', kind: 'List', items: [record('first')] });
    expect(await printed((context) => runWhy({ json: false }, context, join(dir, 'none')))).toHaveLength(1);
  });

  it('is bounded: the oldest go, and what killed writers left', async () => {
    for (const at of [3, 1, 2]) writeRecord(record('a'), at, dir);
    await writeFile(join(dir, '.999999999-x.json'), '');
    pruneState(dir, 2);
    expect(listState(dir).map((name) => Number.parseInt(name, 10))).toEqual([2, 3]);
    await expect(stat(join(dir, '.999999999-x.json'))).rejects.toThrow('ENOENT');
  });
});

describe('thaw retry', () => {
  const checkpoint = `sha256:${'a'.repeat(64)}`;
  const node = { thaw: '1', kernel: '6.1', criu: '4.2', runc: '1.3', driver: '', boot: 'b' };
  const failure = { checkpoint, shape: 's', at: '2026-01-02T03:04:05Z', reason: 'CRIU gave up', node };

  it('forgets a failure, which otherwise counts until the node changes', async () => {
    const failures = new FailedRestores(dir);
    failures.add(failure);
    failures.add({ ...failure, shape: 'other' });
    expect(failures.find(checkpoint, 's', node)).toEqual(failure);
    for (const key of Object.keys(node))
      expect(failures.find(checkpoint, 's', { ...node, [key]: 'changed' })).toBeUndefined();
    expect(failures.find(checkpoint, 't', node)).toBeUndefined();
    const lines = await printed((context) =>
      runRetry({ checkpoint: 'aaaa', json: false }, context, failures),
    );
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(/^Will be tried again: sha256:aaaaaaaaaaaa…, which failed at .*: CRIU gave up$/);
    expect(failures.list()).toEqual([]);
    expect(failures.find(checkpoint, 's', node)).toBeUndefined();
  });

  it('keeps the newest failures of too many', () => {
    const failures = new FailedRestores(dir, 3);
    const days = [5, 2, 4, 1, 3];
    for (const day of days)
      failures.add({ ...failure, shape: `of day ${day}`, at: `2026-01-0${day}T00:00:00Z` });
    // Each that was added made the oldest go, be it itself.
    const kept = failures.list().map(({ shape }) => shape);
    expect(kept.sort()).toEqual(['of day 3', 'of day 4', 'of day 5']);
  });

  it('says so where nothing has failed', async () => {
    const failures = new FailedRestores(dir);
    expect(await printed((context) => runRetry({ json: false }, context, failures))).toEqual([
      'No restore has failed on this node',
    ]);
    await expect(runRetry({ checkpoint: 'b', json: false }, { print: () => {} }, failures)).rejects.toThrow(
      'Cannot find a failed restore of b',
    );
  });
});
