import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RETIRED } from '../../node-state/install-names.ts';
import {
  bringBack,
  daemonOf,
  placeTree,
  removeUnused,
  retire,
  runningIn,
  shimsOf,
  sweep,
  versionOf,
  versionsIn,
} from './versions.ts';

let root: string;
let prefix: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'thaw-'));
  prefix = join(root, 'opt');
});
afterEach(() => rmSync(root, { recursive: true }));

function tree(path: string, version: string, build = 'b1'): string {
  mkdirSync(join(path, 'bin'), { recursive: true });
  writeFileSync(join(path, 'bin/thaw'), build, { mode: 0o755 });
  writeFileSync(join(path, 'VERSION'), `${version}\n${build}\n`);
  return path;
}

describe('a folder', () => {
  it('has its version in a file of its own', async () => {
    expect(await versionOf(tree(join(root, 'a'), '1.2.3-rc.1'))).toEqual({ name: '1.2.3-rc.1', build: 'b1' });
    expect(await versionOf(root)).toBeUndefined();
    for (const name of ['../x', '', '.hidden', 'a/b'])
      expect(await versionOf(tree(join(root, 'bad'), name))).toBeUndefined();
  });
  it('is placed whole, once, and over another build of its version', async () => {
    const from = tree(join(root, 'a'), '1');
    mkdirSync(prefix);
    mkdirSync(join(prefix, '.1.new'));
    await placeTree(from, prefix, { name: '1', build: 'b1' });
    expect(await versionsIn(prefix)).toEqual(['1']);
    writeFileSync(join(prefix, '1/kept'), '');
    await placeTree(from, prefix, { name: '1', build: 'b1' });
    expect(existsSync(join(prefix, '1/kept'))).toBe(true);
    await placeTree(tree(join(root, 'b'), '1', 'b2'), prefix, { name: '1', build: 'b2' });
    expect(readFileSync(join(prefix, '1/bin/thaw'), 'utf8')).toBe('b2');
    expect(existsSync(join(prefix, '1/kept'))).toBe(false);
  });
  it('is a version only below its own name, and never by a link', async () => {
    tree(join(prefix, '1'), '1');
    tree(join(prefix, 'x'), '1');
    symlinkSync('1', join(prefix, 'current'));
    writeFileSync(join(prefix, 'install.json'), '');
    expect(await versionsIn(prefix)).toEqual(['1']);
    expect(await versionsIn(join(root, 'none'))).toEqual([]);
  });
  it('is marked to go, and brought back', async () => {
    tree(join(prefix, '1'), '1');
    await retire(prefix, '1');
    expect(existsSync(join(prefix, '1', RETIRED))).toBe(true);
    await bringBack(prefix, '1');
    expect(existsSync(join(prefix, '1', RETIRED))).toBe(false);
    expect(await removeUnused(prefix, '1')).toBe(true);
    expect(await versionsIn(prefix)).toEqual([]);
    // As where the daemon has removed it since it was looked for.
    await retire(prefix, '1');
    expect(await removeUnused(prefix, '1')).toBe(true);
  });
  it('that a killed installation left is swept away', async () => {
    tree(join(prefix, '1'), '1');
    for (const name of ['.2.new', '.1.old']) mkdirSync(join(prefix, name));
    await sweep(prefix);
    expect(existsSync(join(prefix, '.2.new')) || existsSync(join(prefix, '.1.old'))).toBe(false);
    expect(await versionsIn(prefix)).toEqual(['1']);
  });
});

describe('processes', () => {
  it('are found by where their program lies, and told apart', async () => {
    const proc = join(root, 'proc');
    mkdirSync(prefix);
    const process = (pid: number, exe: string, ...command: string[]) => {
      mkdirSync(join(proc, String(pid)), { recursive: true });
      symlinkSync(exe, join(proc, String(pid), 'exe'));
      writeFileSync(join(proc, String(pid), 'cmdline'), command.map((word) => `${word}\0`).join(''));
      // A name with what else separates fields.
      writeFileSync(
        join(proc, String(pid), 'stat'),
        `${pid} (a) b) S ${Array(18).fill('0').join(' ')} 5000 0`,
      );
    };
    mkdirSync(proc);
    writeFileSync(join(proc, 'uptime'), '100.00 0');
    const node = (version: string) => join(prefix, version, 'bin/node');
    process(1, '/sbin/init', 'init');
    process(2, node('1'), node('1'), '--x', join(prefix, '1/lib/shim.cjs'), '-id', 'x');
    process(3, `${node('2')} (deleted)`, node('2'), join(prefix, '2/lib/thaw-snapshotter.mjs'));
    process(globalThis.process.pid, node('2'), node('2'), join(prefix, '2/lib/thaw.mjs'));
    mkdirSync(join(proc, '4'));
    mkdirSync(join(proc, 'self'));
    const running = await runningIn(prefix, proc);
    expect(running.map(({ pid, version }) => [pid, version])).toEqual([
      [2, '1'],
      [3, '2'],
    ]);
    expect(daemonOf(running)?.pid).toBe(3);
    expect(shimsOf(running).map(({ pid }) => pid)).toEqual([2]);
    // 50 s after a boot that was 100 s ago.
    const { started = 0 } = running[0] ?? {};
    expect(Math.round((Date.now() - started) / 50_000)).toBe(1);
  });
});
