/**
 * thaw from its package on Debian 12, where nothing but containerd and runc is: no Node, no CRIU, no systemd that runs. Debian
 * 12's own containerd is too old; a newer one comes from Debian 13.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { busybox, image, imageTar, layer, type RunResult, run } from '../lib/index.ts';

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

/** Counts, and keeps a word that it was given once in its memory alone. */
const SERVER = `
word=none; n=0
while :; do
  if [ -f /word ]; then word=$(cat /word); rm /word; fi
  n=$((n+1)); echo "$word $n" > /state.new; mv /state.new /state; sleep 0.1
done`;

/** What a test of a whole life has around thaw: a registry, and containerd as somebody starts it by hand. */
const AROUND = `
wait_for() { for i in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; echo "gave up: $*" >&2; return 1; }
start_containerd() { containerd >>/tmp/containerd.log 2>&1 & containerd=$!; wait_for ctr plugins ls; }
stop_containerd() { kill $containerd; wait $containerd || true; }
ctr() { /containerd/ctr -n k8s.io "$@"; }
start() { ctr run -d --null-io --snapshotter thaw --runtime io.containerd.runc.thaw.v2 "$1" "$2"; }
stop() { ctr task rm -f "$1" >/dev/null; ctr container rm "$1"; }
state() { ctr task exec --exec-id look "$1" cat /state; }
knows() { state "$1" | grep -q "^word "; }
ln -s /containerd/* /usr/local/bin/
export PATH=/usr/local/bin:$PATH
# An overlay cannot lie on the overlay that this root is.
for name in thaw containerd; do
  mkdir -p /state/$name /var/lib/$name
  mount --bind /state/$name /var/lib/$name
done
mkdir /registry
cat >/registry/config.yml <<END
version: 0.1
storage: { filesystem: { rootdirectory: /registry/data } }
http: { addr: 127.0.0.1:5000 }
END
OTEL_TRACES_EXPORTER=none docker-registry serve /registry/config.yml >/tmp/registry.log 2>&1 &
registry=$!
`;

let input: string;

beforeAll(async () => {
  for (const suite of ['forky', 'trixie', 'bookworm'])
    await run(node, ['create', '--suite', suite], { timeoutMs: 600_000 });
  input = mkdtempSync(join(tmpdir(), 'thaw-package-'));
  const packed = await run(join(repo, 'scripts/package'), [input], { timeoutMs: 300_000 });
  await run('mv', [packed.stdout.trim(), join(input, 'thaw.tar.gz')]);
  const files = [
    await layer(busybox(join(nodeDir, 'bookworm/usr/bin/busybox'))),
    await layer([{ path: 'server.sh', content: SERVER }]),
  ];
  const server = image(files, { cmd: ['/bin/sh', '/server.sh'] });
  writeFileSync(join(input, 'server.tar'), await imageTar('test.local/server:1', server));
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

it('installs itself there, checkpoints and restores with its own CRIU, and goes again', async () => {
  const script = `${CLEAN}${AROUND}
cp /etc/containerd/config.toml /tmp/before.toml
/package/thaw-*/bin/thaw install
setsid /opt/thaw/current/bin/thaw-snapshotter </dev/null >>/tmp/daemon.log 2>&1 &
wait_for test -S /run/thaw/thaw.sock
start_containerd
ctr images import --snapshotter thaw /input/server.tar
start test.local/server:1 first
wait_for state first
ctr task exec --exec-id tell first sh -c 'echo word >/word'
wait_for knows first
thaw checkpoint first --image 127.0.0.1:5000/server:warm
stop first
thaw prefetch 127.0.0.1:5000/server:warm
start 127.0.0.1:5000/server:warm second
wait_for knows second || { thaw why second; tail -5 /tmp/containerd.log; exit 8; }
thaw why second
if thaw uninstall 2>/tmp/refused; then exit 9; fi
cat /tmp/refused
stop second
thaw uninstall
stop_containerd
start_containerd
/package/thaw-*/bin/thaw uninstall --purge
cmp /tmp/before.toml /etc/containerd/config.toml
test -z "$(ls -A /opt/thaw /var/lib/thaw /run/thaw 2>/dev/null | grep -v :)"
ls /usr/local/bin
ctr images import /input/server.tar
ctr run --rm test.local/server:1 plain echo "containers run without it"
stop_containerd
kill $registry`;
  const { code, stdout, stderr } = await onDebian12(script, true);
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  expect(stdout).toMatch(/ second +Restored /);
  expect(stdout).toMatch(/containers here are thaw's: /);
  expect(stdout).toContain('containerd\ncontainerd-shim-runc-v2\nctr\n');
  expect(stdout).toContain('containers run without it');
});
