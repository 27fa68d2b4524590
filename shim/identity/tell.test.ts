import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../native/index.ts';
import { ChildSpawner } from '../process/spawn.ts';
import { Runc } from '../runc/runc.ts';
import { silent } from '../task/fakes.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import { expectReady, hideTold } from './saving.ts';
import { type TellInput, telling } from './tell.ts';

let dir: string;
let control: string;
let runc: Runc;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'tell-'));
  control = join(dir, 'seen/control');
  for (const name of ['bundle/rootfs', 'bundle/work', 'seen/control'])
    mkdirSync(join(dir, name), { recursive: true });
  const binary = join(dir, 'fake-runc');
  writeFileSync(
    binary,
    `#!/bin/sh\necho "$@" > "${dir}/arguments"; cp "$5" "${dir}/process"; exit "$(cat "${dir}/status")"\n`,
    {
      mode: 0o755,
    },
  );
  writeFileSync(join(dir, 'status'), '0');
  runc = new Runc(
    { binary, root: '/r', systemdCgroup: false, env: { PATH: '/usr/bin:/bin' } },
    new ChildSpawner(native),
  );
});
afterEach(() => rm(dir, { recursive: true }));

const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const specOf = (change: Partial<OciSpec> = {}): OciSpec => ({
  process: { user: owner, env: ['A=1', 'SNAPSHOT_CONTROL_DIR=/control/'] },
  mounts: [{ destination: '/control', type: 'bind', source: control, options: ['rbind', 'rw'] }],
  ...change,
});

function tell(change: Partial<TellInput> = {}, addresses: Record<string, string> = {}) {
  return telling(
    {
      id: 'c',
      bundle: join(dir, 'bundle'),
      spec: specOf(),
      runc,
      stdio: ['ignore', 'ignore', 'ignore'],
      workDir: join(dir, 'bundle/work'),
      log: silent,
      hostname: 'pod',
      checkpoint: { id: 'sha256:1' },
      afterRestore: {},
      ...change,
    },
    { ...files(), readInNamespaces: (path, [namespace]) => addresses[`${namespace}${path}`] },
  );
}

/** What the container sees as its root. */
const files = () => ({ calls: native, rootOf: () => join(dir, 'seen') });

const told = () => JSON.parse(readFileSync(join(dir, 'bundle/rootfs/run/thaw/restore.json'), 'utf8'));

describe('a restored container', () => {
  it('finds a file for its own user alone before it runs, another one for each restore', () => {
    const spec = specOf({ linux: { namespaces: [{ type: 'network', path: '/ns' }] } });
    const trie = '|-- 10.88.0.7\n   /32 host LOCAL\n';
    const addresses = { '/ns/proc/thread-self/net/fib_trie': trie };
    tell({ spec }, addresses).before();
    const first = told();
    expect(first).toMatchObject({
      hostname: 'pod',
      addresses: ['10.88.0.7'],
      checkpoint: { id: 'sha256:1' },
    });
    expect(statSync(join(dir, 'bundle/rootfs/run/thaw/restore.json')).mode & 0o777).toBe(0o400);
    tell().before();
    expect(told().id).not.toBe(first.id);
    expect(told().seed).not.toBe(first.seed);
    expect(told().seed).toMatch(/^[0-9a-f]{64}$/);
  });

  it('has nothing of a restore that failed', async () => {
    const attempt = tell();
    attempt.before();
    writeFileSync(join(control, 'restore-complete'), '');
    attempt.takeBack();
    expect(readdirSync(join(dir, 'bundle/rootfs/run/thaw'))).toEqual([]);
    expect(readdirSync(control)).toEqual([]);
  });

  it('is restored also where it cannot be told', () => {
    symlinkSync(dir, join(dir, 'bundle/rootfs/run'));
    tell().before();
    expect(readdirSync(dir)).not.toContain('thaw');
  });

  it('finds the files that Dynamo has for it once it runs, and no old ones before', async () => {
    writeFileSync(join(control, 'restore-complete'), 'old');
    const attempt = tell();
    attempt.before();
    expect(readdirSync(control)).toEqual([]);
    const seen = await whileRunning(attempt);
    expect(readdirSync(control).sort()).toEqual(['restore-complete', 'restore-context.json']);
    expect(JSON.parse(readFileSync(join(control, 'restore-context.json'), 'utf8')).env).toMatchObject({
      A: '1',
    });
    expect(seen.signal).toBe(null);
  });

  it('gets the signal, after which the file that it looks for is there', async () => {
    const attempt = tell({ afterRestore: { signal: 'SIGUSR1' } });
    attempt.before();
    expect((await whileRunning(attempt)).signal).toBe('SIGUSR1');
    // Nothing had been written where the container sees it, as with a tmpfs there.
    expect(readFileSync(join(dir, 'seen/run/thaw/restore.json'), 'utf8')).toBe(
      readFileSync(join(dir, 'bundle/rootfs/run/thaw/restore.json'), 'utf8'),
    );
  });

  it('runs the command with the process that the pod asks for', async () => {
    const process = '{"args":["/server"],"rlimits":[{"hard":18446744073709551615}],"user":{"uid":7}}';
    writeFileSync(join(dir, 'bundle/config.json'), `{"process":${process}}`);
    const attempt = tell({ afterRestore: { exec: ['/bin/resume', 'now'] } });
    await whileRunning(attempt);
    expect(readFileSync(join(dir, 'arguments'), 'utf8')).toMatch(/^--root \/r exec --process \S+ c$/m);
    expect(readFileSync(join(dir, 'process'), 'utf8')).toBe(
      '{"args":["/bin/resume","now"],"rlimits":[{"hard":18446744073709551615}],"user":{"uid":7},"terminal":false}',
    );
    writeFileSync(join(dir, 'status'), '3');
    await expect(whileRunning(attempt)).rejects.toThrow(/command after the restore failed: .*exit status 3/);
  });
});

describe('a container that is saved', () => {
  const saved = (spec = specOf()) => ({
    id: 'c',
    pid: process.pid,
    bundle: join(dir, 'bundle'),
    spec,
    log: silent,
  });

  it('does not take along what it was told, and has it again when it goes on', () => {
    tell().before();
    const before = told();
    const hidden = hideTold(saved(), files());
    expect(readdirSync(join(dir, 'bundle/rootfs/run/thaw'))).toEqual([]);
    hidden.goOn('failed');
    expect(told()).toEqual(before);
    expect(readdirSync(control)).toEqual([]);
  });

  it('of Dynamo is asked whether it is ready, and told that it was saved', () => {
    expect(() => expectReady(saved(), files())).toThrow(
      /has not written "\/control\/ready-for-snapshot"; try again/,
    );
    expect(() => expectReady(saved(specOf({ process: {} })), files())).not.toThrow();
    writeFileSync(join(control, 'ready-for-snapshot'), '');
    expectReady(saved(), files());
    for (const name of ['restore-complete', 'restore-context.json']) writeFileSync(join(control, name), '');
    hideTold(saved(), files()).goOn('dumped');
    expect(readdirSync(control).sort()).toEqual(['ready-for-snapshot', 'snapshot-complete']);
  });
});

/** Tells a child, which a signal ends; `cat` ends by itself where there was none. */
async function whileRunning(attempt: ReturnType<typeof tell>): Promise<{ signal: NodeJS.Signals | null }> {
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] });
  const ended = once(child, 'exit');
  try {
    await attempt.running(child.pid ?? 0);
  } finally {
    child.stdin.end();
  }
  const [, signal] = await ended;
  return { signal };
}
