import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { onRestore, type Restore, randomBytes, Watch } from './thaw.js';

let dir: string;
let path: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'thaw-client-'));
  path = join(dir, 'restore.json');
});
afterEach(() => rm(dir, { recursive: true }));

/** As the shim does: all of it at once, under another inode. */
function write(id: string): void {
  const told = {
    version: 1,
    id,
    restoredAt: '2026-01-02T03:04:05.678Z',
    pod: { name: 'web-2', namespace: 'models', uid: 'u' },
    container: { name: 'server', id: 'c' },
    hostname: 'web-2',
    addresses: ['10.88.0.7'],
    env: { PATH: process.env['PATH'], COLOUR: 'green' },
    seed: 'ab'.repeat(32),
    checkpoint: { image: 'registry.example/web:1' },
  };
  writeFileSync(`${path}.new`, JSON.stringify(told));
  renameSync(`${path}.new`, path);
}

describe('the client for Node', () => {
  it('tells each restore once', () => {
    const watch = new Watch(path);
    expect(watch.restored()).toBeUndefined();
    write('1');
    expect(watch.restored()).toMatchObject({ id: '1', pod: { name: 'web-2' }, addresses: ['10.88.0.7'] });
    expect(watch.restored()).toBeUndefined();
    // Taken away and written again while the container was saved.
    rmSync(path);
    expect(watch.restored()).toBeUndefined();
    write('1');
    expect(watch.restored()).toBeUndefined();
    write('2');
    expect(watch.restored()?.id).toBe('2');
  });

  it('says nothing of what was there before, nor of files of somebody else', () => {
    write('1');
    const watch = new Watch(path);
    expect(watch.restored()).toBeUndefined();
    for (const text of ['', '[]', '{}', 'no JSON']) {
      writeFileSync(path, text);
      expect(watch.restored()).toBeUndefined();
    }
    write('2');
    expect(watch.restored()?.id).toBe('2');
  });

  it('takes over the environment, and has seeds for each purpose', () => {
    const watch = new Watch(path);
    write('1');
    const restore = watch.restored() as Restore;
    const before = { ...process.env };
    try {
      process.env['STALE'] = '1';
      restore.apply();
      expect(process.env['COLOUR']).toBe('green');
      expect(process.env).not.toHaveProperty('STALE');
    } finally {
      for (const name of Object.keys(process.env)) delete process.env[name];
      Object.assign(process.env, before);
    }
    expect(restore.seedFor('a')).toHaveLength(32);
    expect(restore.seedFor('a').equals(restore.seedFor('b'))).toBe(false);
    expect(restore.seedFor('a').equals(restore.seedFor('a'))).toBe(true);
    expect(randomBytes(16).equals(randomBytes(16))).toBe(false);
  });

  it('calls back until it is ended', async () => {
    const ids: string[] = [];
    const called = Promise.withResolvers<void>();
    const end = onRestore(
      (restore) => {
        ids.push(restore.id);
        called.resolve();
      },
      { path, intervalMs: 5 },
    );
    write('1');
    // The timer alone does not keep a process alive.
    const alive = setInterval(() => {}, 1000);
    await called.promise;
    clearInterval(alive);
    end();
    expect(ids).toEqual(['1']);
  });
});
