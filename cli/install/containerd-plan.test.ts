import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, type TomlTable } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { checkContainerdConfig } from '../doctor/containerd-config.ts';
import {
  type ContainerdFacts,
  foreignChanges,
  onTrial,
  planContainerd,
  type ThawFacts,
} from './containerd-plan.ts';
import { mergeTables, withoutSettings } from './toml-edit.ts';

const DAEMON = { root: '/var/lib/thaw', state: '/run/thaw', address: '/run/thaw/snapshotter.sock' };
const SHIM = '/opt/thaw/current/bin/containerd-shim-thaw-v2';
const MAIN = '/etc/containerd/config.toml';
const DROP_IN = '/etc/containerd/conf.d/thaw.toml';

const thaw = (change: Partial<ThawFacts> = {}): ThawFacts => ({
  scope: 'node',
  daemon: DAEMON,
  shim: SHIM,
  dropIn: (name) => readFileSync(join(import.meta.dirname, '../../deploy/containerd', name), 'utf8'),
  ...change,
});
const facts = (version: string, text: string | undefined, settings: TomlTable = {}): ContainerdFacts => ({
  version,
  main: { path: MAIN, text },
  settings,
});
const V2 = 'version = 2\n# mine\n[plugins."io.containerd.grpc.v1.cri".cni]\n  bin_dir = "/usr/lib/cni"\n';
const V3 =
  "version = 3\n# mine\n[plugins.'io.containerd.cri.v1.runtime'.cni]\n  bin_dirs = ['/usr/lib/cni']\n";

describe("what becomes of containerd's files", () => {
  it.each([
    ['1.7.24', V2, 'node'],
    ['1.7.24', undefined, 'node'],
    ['1.7.24', '# nothing\n', 'class'],
    ['2.1.9', V2, 'node'],
    ['2.1.9', V3, 'node'],
    ['2.1.9', V3, 'class'],
    ['2.3.0', undefined, 'class'],
  ] as const)(
    '%s with a main file %j and images of a %s: thaw has all that it needs',
    (version, text, scope) => {
      const { main, dropIn } = planContainerd(facts(version, text), thaw({ scope }));
      const merged = mergeTables(parse(main), dropIn ? parse(dropIn.text) : {});
      expect(checkContainerdConfig(merged, version, DAEMON)).toMatchObject({
        snapshotter: 'thaw',
        findings: [{ status: 'ok' }],
      });
      // Never a file of version 3 below one of version 2.
      if (dropIn) expect(parse(dropIn.text)['version']).toBe(parse(main)['version']);
      expect(dropIn === undefined).toBe(version.startsWith('1.'));
      expect(withoutSettings(main)).toBe(text ?? '');
    },
  );
  it('are the same again the second time', () => {
    for (const [version, text] of [
      ['1.7.24', V2],
      ['2.1.9', V3],
      ['2.1.9', undefined],
    ] as const) {
      const once = planContainerd(facts(version, text), thaw());
      expect(planContainerd(facts(version, once.main), thaw())).toEqual(once);
    }
  });
  it.each([
    ["imports = ['/etc/containerd/conf.d/*.toml']", true],
    ["imports = ['conf.d/*.toml']", true],
    [`imports = ['${DROP_IN}']`, true],
    ["imports = ['/etc/containerd/conf.d/a*.toml']", false],
    ["imports = ['/etc/containerd/other/*.toml']", false],
  ])('%s names the drop-in already: %s', (imports, is) => {
    const text = `${imports}\nversion = 3\n`;
    const { main } = planContainerd(facts('2.1.9', text), thaw());
    expect(main === text).toBe(is);
    expect(parse(main)['imports']).toEqual([
      ...(parse(text)['imports'] as string[]),
      ...(is ? [] : [DROP_IN]),
    ]);
  });
  it("hand containerd's systemd cgroup driver on to runc", () => {
    const runtimes = { runc: { runtime_type: 'io.containerd.runc.v2', options: { SystemdCgroup: true } } };
    const settings = { plugins: { 'io.containerd.cri.v1.runtime': { containerd: { runtimes } } } };
    const { dropIn } = planContainerd(facts('2.1.9', V3, settings), thaw());
    expect(dropIn?.text).toContain(`runtime_path = "${SHIM}"`);
    expect(dropIn?.text).toContain('SystemdCgroup = true');
    const old = { plugins: { 'io.containerd.grpc.v1.cri': { containerd: { runtimes } } } };
    expect(planContainerd(facts('1.7.24', V2, old), thaw()).main).toContain('SystemdCgroup = true');
    expect(planContainerd(facts('1.7.24', V2), thaw()).main).not.toContain('SystemdCgroup');
  });
  it('of 1.7 name the runtime runc where it is only the default, which another runtime would take away', () => {
    const runc = { runtime_type: 'io.containerd.runc.v2', runtime_path: '', options: { ShimCgroup: '' } };
    const settings = { plugins: { 'io.containerd.grpc.v1.cri': { containerd: { runtimes: { runc } } } } };
    const added = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc] # thaw install';
    const { main } = planContainerd(facts('1.7.24', V2, settings), thaw());
    expect(main).toContain(`${added}\nruntime_type = "io.containerd.runc.v2" # thaw install\n`);
    expect(main).not.toContain('ShimCgroup');
    const named = `${V2}[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n`;
    expect(planContainerd(facts('1.7.24', named, settings), thaw()).main).not.toContain(added);
    expect(planContainerd(facts('2.1.9', V2, settings), thaw()).dropIn?.text).not.toContain('runtimes.runc]');
  });
  it("name the daemon's own root and socket", () => {
    const daemon = { root: '/data/thaw', state: '/run/other', address: '/run/other/s.sock' };
    const { dropIn } = planContainerd(facts('2.1.9', V3), thaw({ daemon }));
    expect(checkContainerdConfig(parse(dropIn?.text ?? ''), '2.1.9', daemon).findings[0]?.status).toBe('ok');
  });
  it.each([
    ['1.6.20~ds1', V2, /1\.6\.20.*needs 1\.7 or 2\.x/],
    ['2.1.9', 'disabled_plugins = ["cri"]\n', /version 1.*containerd config migrate/],
  ])('stay as they are with %s and %j', (version, text, words) => {
    expect(() => planContainerd(facts(version, text), thaw())).toThrow(words);
  });
  it('of version 2 in containerd 2.0 to 2.2 cannot hold a snapshotter of one class', () => {
    expect(() => planContainerd(facts('2.1.9', V2), thaw({ scope: 'class' }))).toThrow(/--images node/);
  });
  it('are said to lose comments where they do, and to be of no use to a kubelet', () => {
    const inline =
      'version = 2\nplugins = { "io.containerd.grpc.v1.cri" = { containerd = { snapshotter = "x" } } }\n';
    expect(planContainerd(facts('1.7.24', inline), thaw()).notes).toEqual([
      expect.stringContaining('comments'),
    ]);
    const disabled = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n';
    expect(planContainerd(facts('1.7.24', disabled), thaw()).notes).toEqual([
      expect.stringContaining('kubelet'),
    ]);
  });
});

describe('a trial of a main file', () => {
  it('reads the drop-in from elsewhere, and others from where they are', () => {
    const text = `imports = ['conf.d/a.toml', '${DROP_IN}']\nversion = 3\n`;
    const trial = onTrial(text, MAIN, { path: DROP_IN, trial: '/tmp/x/thaw.toml' });
    expect(parse(trial)).toEqual({
      imports: ['/etc/containerd/conf.d/a.toml', '/tmp/x/thaw.toml'],
      version: 3,
    });
    expect(parse(onTrial('version = 2\n', MAIN, undefined))).toEqual({ version: 2 });
  });
});

describe('changes of settings', () => {
  const base = { root: '/a', plugins: { 'io.containerd.cri.v1.images': { snapshotter: 'overlayfs', x: 1 } } };
  it("that are thaw's are none", () => {
    const { dropIn } = planContainerd(facts('2.1.9', V3), thaw());
    expect(foreignChanges(base, mergeTables(base, parse(dropIn?.text ?? '')))).toEqual([]);
  });
  it('to what is empty anyway are none, and from what is not are', () => {
    const runtime = (options: TomlTable) => ({ runc: { options } });
    expect(foreignChanges(runtime({ a: '', b: false, c: [], d: 0 }), { runc: {} })).toEqual([]);
    expect(foreignChanges(runtime({ b: true }), runtime({ b: false }))).toEqual(['runc.options.b']);
  });
  it('of others are named', () => {
    const after = { root: '/b', plugins: { 'io.containerd.cri.v1.images': { snapshotter: 'thaw' } } };
    expect(foreignChanges(base, after)).toEqual(['root', 'plugins.io.containerd.cri.v1.images.x']);
  });
});
