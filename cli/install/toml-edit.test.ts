import { parse, type TomlTable } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { mergeTables, withoutSettings, withSettings } from './toml-edit.ts';

const SETTINGS: TomlTable = {
  imports: ['/etc/containerd/conf.d/thaw.toml'],
  proxy_plugins: { thaw: { type: 'snapshot', exports: { root: '/var/lib/thaw' } } },
  plugins: {
    'io.containerd.grpc.v1.cri': {
      containerd: { snapshotter: 'thaw', runtimes: { thaw: { pod_annotations: ['thaw.dev/*'] } } },
    },
  },
};

const DEBIAN = `version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    # where Debian has them
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd"
`;
const KUBEADM = `imports = [
  "/etc/containerd/site/*.toml", # ours
]
version = 2
[plugins]
  [plugins.'io.containerd.grpc.v1.cri'.containerd] # a comment
      default_runtime_name = "runc"
      snapshotter = "overlayfs" # the default
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
[proxy_plugins]
  [proxy_plugins.stargz]
    type = "snapshot"
`;

describe('settings in a file of somebody else', () => {
  it.each([
    ['an empty file', ''],
    ["Debian's", DEBIAN],
    ["kubeadm's", KUBEADM],
    ['one without a last line end', 'version = 2'],
    ['Windows line ends', DEBIAN.replaceAll('\n', '\r\n')],
  ])('are put into %s by line and taken out again', (_, before) => {
    const { text, isByLine } = withSettings(before, SETTINGS);
    expect(isByLine).toBe(true);
    expect(parse(text)).toEqual(mergeTables(parse(before), SETTINGS));
    expect(withSettings(text, SETTINGS).text).toBe(text);
    expect(withoutSettings(text)).toBe(before === '' || before.endsWith('\n') ? before : `${before}\n`);
  });
  it('leave everything else where it was, comments too', () => {
    const { text } = withSettings(KUBEADM, SETTINGS);
    expect(text.split('\n').slice(0, 12)).toEqual([
      'imports = [ "/etc/containerd/conf.d/thaw.toml" ] # thaw install',
      '# thaw uninstall: imports = [',
      '# thaw uninstall:   "/etc/containerd/site/*.toml", # ours',
      '# thaw uninstall: ]',
      'version = 2',
      '[plugins]',
      "  [plugins.'io.containerd.grpc.v1.cri'.containerd] # a comment",
      '      default_runtime_name = "runc"',
      'snapshotter = "thaw" # thaw install',
      '# thaw uninstall:       snapshotter = "overlayfs" # the default',
      '    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]',
      '      runtime_type = "io.containerd.runc.v2"',
    ]);
  });
  it('are taken out of a file that was changed meanwhile, and what was changed stays', () => {
    const { text } = withSettings(KUBEADM, SETTINGS);
    const changed = text.replace('[proxy_plugins]', 'oom_score = -999\n[proxy_plugins]');
    expect(withoutSettings(changed)).toBe(
      KUBEADM.replace('[proxy_plugins]', 'oom_score = -999\n[proxy_plugins]'),
    );
  });
  it.each([
    [
      'an inline table',
      'plugins = { "io.containerd.grpc.v1.cri" = { containerd = { snapshotter = "x" } } }\n',
    ],
    ['dotted keys', '[plugins]\n"io.containerd.grpc.v1.cri".containerd.snapshotter = "x"\n'],
    ['a text that looks like a table', 'a = """\n[proxy_plugins.thaw]\n"""\n'],
  ])('hold where the file has %s, though it is written anew', (_, before) => {
    const { text, isByLine } = withSettings(before, SETTINGS);
    expect(isByLine).toBe(false);
    expect(parse(text)).toEqual(mergeTables(parse(before), SETTINGS));
  });
  it('that are there already change nothing', () => {
    const before = 'version = 2 # mine\n';
    expect(withSettings(before, { version: 2 })).toEqual({ text: before, isByLine: true });
  });
  it('are for TOML alone', () => {
    expect(() => withSettings('version = \n', SETTINGS)).toThrow(/TOML/);
  });
});
