/** `thaw install` and `thaw uninstall` on a node that has nothing of thaw: neither its Node nor its CRIU are in PATH. */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Finding } from '../cli/doctor/finding.ts';
import { FakeSystemd } from './lib/fake-systemd.ts';
import { Daemon, privateDir, until } from './lib/index.ts';
import { flags, type Places, placesIn, SYSTEM_PATH, thaw, unpack } from './lib/install.ts';
import { KubeletNode, type Pod } from './lib/kubelet-node.ts';
import { accepts } from './lib/snapshotter.ts';

const command = ['/bin/sh', '-c', 'echo up; n=0; while :; do n=$((n+1)); echo $n > /count; sleep 0.1; done'];

const lines = (text: string) => text.trimEnd().split('\n');
const programOf = (pid: number) => readlinkSync(`/proc/${pid}/exe`);

function shimOf(containerId: string): number {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      if (words.some((word) => word.endsWith('/lib/shim.cjs')) && words.includes(containerId))
        return Number(pid);
    } catch {
      // It ended meanwhile.
    }
  }
  throw new Error(`no shim of ${containerId}`);
}

describe('a node with pods', () => {
  let dir: string;
  let places: Places;
  let node: KubeletNode;
  let systemd: FakeSystemd;
  let daemon: Daemon | undefined;
  let before: string;
  let [older, newer] = ['', ''];
  /** Whether containerd is to fail at its next start. */
  let breaks = false;

  const call = (tree: string, verb: 'install' | 'uninstall', ...more: string[]) =>
    thaw(
      tree,
      ['--address', node.containerd.socket, verb, ...flags(places), '--config', node.config, ...more],
      {
        path: `${systemd.bin}:${SYSTEM_PATH}`,
      },
    );
  const installed = () => readlinkSync(join(places.prefix, 'current'));
  // A case may be run alone, or after one that failed: it makes itself what it begins with.
  const haveOlder = async () => {
    if (existsSync(places.prefix) && installed() === '0.1.0-older') return;
    const done = await call(older, 'install');
    expect(done.code, done.stderr).toBe(0);
  };
  const haveNothing = async () => {
    if (!existsSync(places.prefix)) return;
    const done = await call(older, 'uninstall', '--purge');
    expect(done.code, done.stderr).toBe(0);
  };
  /** In the registry. */
  let images: { cold: string; warm: string } | undefined;
  const haveImages = async () => {
    if (images) return images;
    await haveOlder();
    const cold = await node.pushImage('test/installed', [], command);
    const source = await node.runPod({ image: cold, command });
    const warm = await checkpoint(source);
    await node.removePod(source);
    await node.forget(warm);
    images = { cold, warm };
    return images;
  };
  const daemonOf = (version: string) =>
    readdirSync('/proc')
      .map(Number)
      .find((pid) => {
        try {
          return (
            programOf(pid) === join(places.prefix, version, 'bin/node') &&
            readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('/lib/thaw-snapshotter.mjs')
          );
        } catch {
          return false;
        }
      });
  const isDaemonOf = (version: string) => () => daemonOf(version) !== undefined;
  /** The one of a unit, which after a hand-over is no child of ours. */
  const signalDaemon = (signal: NodeJS.Signals) => {
    const pid = daemonOf('0.1.0-older') ?? daemonOf('0.2.0-newer');
    if (pid !== undefined) process.kill(pid, signal);
  };

  /** As systemd does what these units say. */
  async function systemctl(what: string, units: readonly string[]): Promise<number> {
    switch (what) {
      case 'is-enabled':
        return systemd.asked.some((line) => line.startsWith('enable')) ? 0 : 1;
      case 'start': {
        const unit = readFileSync(join(places.unitDir, units[0] ?? ''), 'utf8');
        const [program = '', ...args] = /^ExecStart=(.*)$/m.exec(unit)?.[1]?.split(' ') ?? [];
        daemon = await Daemon.start(program, args, {
          log: join(dir, 'daemon.log'),
          ready: async () =>
            (await accepts('/run/thaw/snapshotter.sock')) && (await accepts('/run/thaw/thaw.sock')),
        });
        return 0;
      }
      case 'reload':
        signalDaemon('SIGHUP');
        return 0;
      case 'restart':
        if (breaks) {
          breaks = false;
          return 1;
        }
        await node.containerd.restart();
        return 0;
      case 'disable':
        signalDaemon('SIGTERM');
        await until('the daemon to end', () => !isDaemonOf('0.1.0-older')() && !isDaemonOf('0.2.0-newer')());
        return 0;
      default:
        return 0;
    }
  }

  beforeAll(async () => {
    dir = privateDir('install');
    systemd = FakeSystemd.start(systemctl);
    const binDir = join(dir, 'bin');
    node = await KubeletNode.start({ dropIn: 'none', env: { PATH: `${binDir}:${SYSTEM_PATH}` } });
    places = placesIn(dir, node.containerd.config);
    before = readFileSync(node.containerd.config, 'utf8');
    [older, newer] = [unpack(dir, '0.1.0-older'), unpack(dir, '0.2.0-newer')];
  });
  afterAll(async () => {
    await node?.stop({ withSnapshotter: false });
    await daemon?.stop();
    await systemd?.stop();
    if (dir) rmSync(dir, { recursive: true, force: true });
  });

  it('says first what it will do, and does that', async () => {
    const { stdout: planned, stderr, code } = await call(older, 'install', '--dry-run');
    expect([code, stderr.replaceAll(/^note: .*\n/gm, '')]).toEqual([0, '']);
    expect(systemd.asked).toEqual([]);
    expect(existsSync(places.prefix) || existsSync(places.binDir) || existsSync(places.unitDir)).toBe(false);
    expect(readFileSync(node.containerd.config, 'utf8')).toBe(before);
    expect(existsSync(join(dirname(node.containerd.config), 'conf.d'))).toBe(false);

    const done = await call(older, 'install');
    expect(done.code, done.stderr).toBe(0);
    expect(lines(done.stdout).slice(0, -1)).toEqual(lines(planned));
    expect(systemd.asked).toEqual([
      'daemon-reload',
      'enable thaw-snapshotter.socket thaw-snapshotter.service',
      'start thaw-snapshotter.service',
      'restart containerd.service',
    ]);
    expect(installed()).toBe('0.1.0-older');

    const asked = await thaw(join(places.prefix, 'current'), [
      ...['--address', node.containerd.socket, 'doctor', '--json'],
      ...['--config', node.config, '--containerd-config', node.containerd.config],
    ]);
    const { findings } = JSON.parse(asked.stdout) as { findings: Finding[] };
    // How full this machine's disk is, and a containerd whose PATH only the test knows, are no matter of thaw's.
    const bad = findings.filter(({ check, status }) => status !== 'ok' && !/^(disk space|shim)$/.test(check));
    expect(bad).toEqual([]);
  });

  it('changes nothing the second time', async () => {
    await haveOlder();
    const count = systemd.asked.length;
    const { stdout } = await call(join(places.prefix, 'current'), 'install');
    expect(stdout).toBe('thaw 0.1.0-older is installed; nothing to change\n');
    expect(systemd.asked.length).toBe(count);
  });

  it('is upgraded and brought back while restored pods run, each from its own version', async () => {
    await haveOlder();
    const { warm } = await haveImages();
    const first = await node.runPod({ image: warm, command });
    expect(await node.startOf(first)).toContain('"restored"');
    const shim = shimOf(first.podId);
    expect(programOf(shim)).toBe(join(places.prefix, '0.1.0-older/bin/node'));

    const upgraded = await call(newer, 'install');
    expect(upgraded.code, upgraded.stderr).toBe(0);
    expect(upgraded.stdout).toContain('run systemctl reload thaw-snapshotter.service');
    expect(upgraded.stdout).not.toContain('restart containerd');
    await until('the new daemon', isDaemonOf('0.2.0-newer'));
    await until('the old daemon to end', () => !isDaemonOf('0.1.0-older')());
    await node.containerd.reachSnapshotter();
    const second = await node.runPod({ image: warm, command });
    expect(programOf(shimOf(second.podId))).toBe(join(places.prefix, '0.2.0-newer/bin/node'));
    await goesOn(first);
    await goesOn(second);
    // The old shim, with the new daemon and the new command.
    const again = await checkpoint(first, 'again');
    expect(programOf(shim)).toBe(join(places.prefix, '0.1.0-older/bin/node'));
    // All that it has loaded is of its own version, or the system's.
    const foreign = readFileSync(`/proc/${shim}/maps`, 'utf8').match(/\/\S*opt\/(?!0\.1\.0-older)\S*/g);
    expect(foreign).toBeNull();

    const downgraded = await call(older, 'install');
    expect(downgraded.code, downgraded.stderr).toBe(0);
    await until('the older daemon', isDaemonOf('0.1.0-older'));
    await until('the newer daemon to end', () => !isDaemonOf('0.2.0-newer')());
    await node.containerd.reachSnapshotter();
    await goesOn(first);
    await goesOn(second);
    const third = await node.runPod({ image: again, command });
    expect(programOf(shimOf(third.podId))).toBe(join(places.prefix, '0.1.0-older/bin/node'));
    await node.removePod(third);
    expect(existsSync(join(places.prefix, '0.2.0-newer'))).toBe(true);
    await node.removePod(second);
    const cleaned = await call(older, 'install');
    expect(cleaned.stdout).toContain(`remove ${join(places.prefix, '0.2.0-newer')}/`);
    expect(existsSync(join(places.prefix, '0.2.0-newer'))).toBe(false);

    const refusal = await call(older, 'uninstall');
    expect(refusal.code).toBe(1);
    expect(refusal.stderr).toMatch(/containers here are thaw's: .*drain the node first.*--force/);
    expect(refusal.stdout).toBe('');
    await goesOn(first);
    await node.removePod(first);
  }, 300_000);

  it('gets its old configuration back where containerd does not start with the new one', async () => {
    await haveOlder();
    const file =
      node.containerd.version === '2'
        ? join(dirname(node.containerd.config), 'conf.d/thaw.toml')
        : node.containerd.config;
    const now = readFileSync(file, 'utf8');
    breaks = true;
    const { code, stderr } = await call(older, 'install', '--images', 'class');
    expect(code).toBe(1);
    expect(stderr).toMatch(/its configuration is as it was: see "journalctl -u containerd"/);
    expect(readFileSync(file, 'utf8')).toBe(now);
    await node.containerd.reachSnapshotter();
  });

  it('is as it was before after an uninstallation, and pods go on without thaw', async () => {
    const { cold, warm } = await haveImages();
    await haveOlder();
    const planned = await call(older, 'uninstall', '--purge', '--dry-run');
    expect(planned.code, planned.stderr).toBe(0);
    expect(readFileSync(node.containerd.config, 'utf8')).not.toBe(before);
    const done = await call(older, 'uninstall', '--purge');
    expect(done.code, done.stderr).toBe(0);
    expect(lines(done.stdout).slice(0, -1)).toEqual(lines(planned.stdout));
    expect(readFileSync(node.containerd.config, 'utf8')).toBe(before);
    for (const path of [
      places.prefix,
      node.root,
      '/run/thaw',
      join(dirname(node.containerd.config), 'conf.d/thaw.toml'),
    ])
      expect(existsSync(path), path).toBe(false);
    expect([readdirSync(places.binDir), readdirSync(places.unitDir)]).toEqual([[], []]);
    expect(isDaemonOf('0.1.0-older')()).toBe(false);

    const pod = await node.runPod({
      image: cold,
      command,
      handler: 'runc',
    });
    await goesOn(pod);
    await node.removePod(pod);
    expect(await node.cri.imageStatus(warm)).toBeUndefined();
    const { stdout } = await call(older, 'uninstall');
    expect(stdout).toBe('thaw is not installed; nothing to change\n');
  });

  it('can have thaw again afterwards', async () => {
    const { warm } = await haveImages();
    await haveNothing();
    expect((await call(newer, 'install')).code).toBe(0);
    const pod = await node.runPod({ image: warm, command });
    expect(await node.startOf(pod)).toContain('"restored"');
    await node.removePod(pod);
    const done = await call(newer, 'uninstall');
    expect(done.code, done.stderr).toBe(0);
    expect(existsSync(node.root)).toBe(true);
    // What was left can still be taken away.
    const purged = await call(newer, 'uninstall', '--purge');
    expect(purged.code, purged.stderr).toBe(0);
    expect([existsSync(node.root), existsSync(places.prefix)]).toEqual([false, false]);
  });

  async function checkpoint(pod: Pod, tag = 'warm'): Promise<string> {
    const reference = `${node.registry.host}/test/installed:${tag}`;
    const args = ['--address', node.containerd.socket, 'checkpoint', pod.containerId, '--image', reference];
    const done = await thaw(join(places.prefix, 'current'), args);
    expect(done.code, done.stderr).toBe(0);
    return reference;
  }

  async function goesOn(pod: Pod): Promise<void> {
    const count = async () => Number(await node.exec(pod, 'cat', '/count'));
    const from = await count();
    await until('the pod to go on', async () => (await count()) > from);
  }
});
