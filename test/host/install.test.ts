/**
 * thaw from its package on Debian 12, where nothing but containerd and runc is: no Node, no CRIU, no systemd that runs. Debian
 * 12's own containerd is too old; a newer one comes from Debian 13.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type RunResult, run } from '../lib/index.ts';

const repo = join(import.meta.dirname, '../..');
const node = join(repo, 'scripts/node');
const nodeDir = process.env['THAW_NODE_DIR'] ?? join(repo, '.node');

const CLEAN = `set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
rm -rf /opt/thaw/* /usr/local/bin/*
for name in node criu thaw; do ! command -v "$name"; done
mkdir /package
tar -xzf /input/thaw.tar.gz -C /package
`;

let input: string;

beforeAll(async () => {
  for (const suite of ['forky', 'trixie', 'bookworm'])
    await run(node, ['create', '--suite', suite], { timeoutMs: 600_000 });
  input = mkdtempSync(join(tmpdir(), 'thaw-package-'));
  const packed = await run(join(repo, 'scripts/package'), [input], { timeoutMs: 300_000 });
  await run('mv', [packed.stdout.trim(), join(input, 'thaw.tar.gz')]);
}, 1_200_000);
afterAll(() => {
  if (input) rmSync(input, { recursive: true, force: true });
});

function onDebian12(script: string, newer: boolean): Promise<RunResult> {
  const programs = ['containerd', 'ctr', 'containerd-shim-runc-v2'];
  const binds = programs.flatMap((name) => [
    '--bind',
    `${join(nodeDir, 'trixie/usr/bin', name)}:/containerd/${name}`,
  ]);
  const args = ['exec', '--suite', 'bookworm', '--bind', `${input}:/input`, ...(newer ? binds : [])];
  return run(node, [...args, '--', 'sh', '-c', script], { allowFailure: true, timeoutMs: 170_000 });
}

it("says that Debian 12's containerd is too old, and changes nothing", async () => {
  const script = `${CLEAN}
before=$(cat /etc/containerd/config.toml)
if /package/thaw-*/bin/thaw install; then exit 9; fi
test "$before" = "$(cat /etc/containerd/config.toml)"
test -z "$(ls /opt/thaw /usr/local/bin | grep -v :)"`;
  const { code, stderr } = await onDebian12(script, false);
  expect(stderr).toMatch(/containerd here is 1\.6\.\S+, and thaw needs 1\.7 or 2\.x/);
  expect(code, stderr).toBe(0);
});

it('is installed by the pod of the DaemonSet, through the node it runs on, and stays when that pod merely ends', async () => {
  const script = `${CLEAN}
PATH=/containerd:$PATH containerd config dump >/dev/null
ln -s /containerd/* /usr/local/bin/
mkdir -p /host/opt/thaw
mount --bind /opt/thaw /host/opt/thaw
/package/thaw-*/bin/thaw daemonset --daemonset thaw-installer --pod-namespace thaw-system >/tmp/said 2>&1 &
installer=$!
for i in $(seq 600); do test -e /run/thaw-installed && break; sleep 0.1; done
readlink /usr/local/bin/thaw
test -x /opt/thaw/current/bin/thaw-snapshotter
kill $installer
wait $installer
cat /tmp/said`;
  const { code, stdout, stderr } = await onDebian12(script, true);
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  expect(stdout).toContain('/opt/thaw/current/bin/thaw\n');
  expect(stdout).toMatch(/note: whether the DaemonSet is there cannot be seen .*thaw stays/);
  expect(stdout).toMatch(/^thaw \S+ is installed in \/opt\/thaw$/m);
  expect(stdout).toMatch(/^thaw stays: /m);
});
