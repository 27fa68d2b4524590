import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, type TomlTable } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { checkContainerdConfig } from './containerd-config.ts';
import { DEFAULT_DAEMON_CONFIG } from './machine.ts';

const dropIn = (name: string) =>
  readFileSync(join(import.meta.dirname, '../../deploy/containerd', name), 'utf8');
const check = (text: string | TomlTable, version: string) =>
  checkContainerdConfig(typeof text === 'string' ? parse(text) : text, version, DEFAULT_DAEMON_CONFIG);
const V2 = dropIn('containerd-1.7.toml');
const V3 = dropIn('containerd-2.toml');

describe("the drop-ins' own settings", () => {
  it.each([
    ['containerd-1.7.toml', '1.7.24'],
    ['containerd-2.toml', '2.1.9'],
    ['containerd-2.toml', '2.3.0'],
    ['whole-node-1.7.toml', '1.7.24'],
    ['whole-node-2.toml', '2.1.9'],
    ['whole-node-2.toml', '2.3.0'],
  ])('of %s are right for containerd %s', (name, version) => {
    expect(check(dropIn(name), version)).toEqual({
      snapshotter: 'thaw',
      shimPaths: [],
      findings: [{ check: 'containerd configuration', status: 'ok', found: 'plug-in thaw, handlers thaw' }],
    });
  });

  it('declare no capability that is not there: containerd would remap ids, and commit onto other parents', () => {
    for (const name of [
      'containerd-1.7.toml',
      'containerd-2.toml',
      'whole-node-1.7.toml',
      'whole-node-2.toml',
    ])
      expect(parse(dropIn(name)), name).toMatchObject({
        proxy_plugins: { thaw: expect.not.objectContaining({ capabilities: expect.anything() }) },
      });
  });
});

describe('a setting that is wrong is named', () => {
  it.each([
    ['failed', '2.1.9', V3.replace('snapshotter.sock', 'other.sock'), /no proxy plug-in .*snapshotter.sock/],
    ['failed', '1.7.24', V2.replace('_annotations = false', '_annotations = true'), /disable_snapshot_annot/],
    ['failed', '2.1.9', V3.replace('_annotations = false', '_annotations = true'), /disable_snapshot_annot/],
    ['failed', '2.1.9', V3.replace('runc.thaw.v2', 'runc.v2'), /no runtime handler/],
    // The bug of 2.0 to 2.2: pulls do not look at the runtime.
    ['failed', '2.2.7', V3.replace('runtime_platforms.thaw]', 'other]'), /pulls images .* overlayfs/],
    ['failed', '1.7.24', V2.replace('  snapshotter = "thaw"', ''), /thaw get the snapshotter overlayfs/],
    ['warning', '2.1.9', V3.replace("root = '/var/lib/thaw'", ''), /exports.root .* not set/],
    ['warning', '2.1.9', V3.replace("annotations = 'true'", "annotations = 'no'"), /enable_remote/],
    ['warning', '2.1.9', V3.replace("pod_annotations = ['thaw.dev/*']", ''), /thaw.dev\/restore/],
  ])('%s under %s: %#', (status, version, text, found) => {
    expect(check(text, version).findings).toEqual([
      {
        check: 'containerd configuration',
        status,
        found: expect.stringMatching(found),
        mend: expect.stringMatching(/./),
      },
    ]);
  });

  it.each([
    ['2.3.0', V3.replace('runtime_platforms.thaw]', 'other]')],
    ['1.7.15', V2.replace('root = "/var/lib/thaw"', '')],
  ])('but not where containerd %s does not need it', (version, text) => {
    expect(check(text, version).findings.map(({ status }) => status)).toEqual(['ok']);
  });

  it('a shim by path is one of ours, and its path is looked at', () => {
    const path = '/opt/thaw/current/bin/containerd-shim-thaw-v2';
    const text = V3.replace(
      "'io.containerd.runc.thaw.v2'",
      `'io.containerd.runc.v2'\n  runtime_path = '${path}'`,
    );
    expect(check(text, '2.1.9')).toMatchObject({ shimPaths: [path], findings: [{ status: 'ok' }] });
  });
});
