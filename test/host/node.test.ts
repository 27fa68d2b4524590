// Runs on the machine itself, as root: what scripts/node leaves there when it is killed. What counts is found by the
// node's own cgroups and namespaces, so other nodes may run meanwhile.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { run, sleep, until } from '../lib/index.ts';

const repo = join(import.meta.dirname, '../..');
const script = join(repo, 'scripts/node');
const nodeDir = process.env['THAW_NODE_DIR'] ?? join(repo, '.node');

interface Node {
  child: ChildProcess;
  /** Also the supervisor's process id: scripts/node becomes it. */
  pid: number;
  output: () => string;
  exited: Promise<number>;
}

function start(args: string[]): Node {
  const child = spawn(script, ['exec', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  const exited = new Promise<number>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal === null ? (code ?? -1) : -1));
  });
  return { child, pid: child.pid ?? -1, output: () => output, exited };
}

/** Name of the running node of a supervisor, once it has one. */
function nameOf(pid: number): string | undefined {
  const locks = existsSync(join(nodeDir, 'run')) ? readdirSync(join(nodeDir, 'run')) : [];
  return locks.find((name) => name.includes(`-${pid}-`) && name.endsWith('.lock'))?.slice(0, -'.lock'.length);
}

function processes(): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name));
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined; // the process has ended meanwhile
  }
}

function membersOf(name: string): string[] {
  return processes().filter((pid) =>
    attempt(() => readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.includes(name),
  );
}

/** All namespaces that a set of processes is in, beyond those of this process. */
function namespacesOf(pids: string[]): Set<string> {
  const own = new Set(readdirSync('/proc/self/ns').map((kind) => readlinkSync(`/proc/self/ns/${kind}`)));
  const found = new Set<string>();
  for (const pid of pids)
    for (const kind of attempt(() => readdirSync(`/proc/${pid}/ns`)) ?? []) {
      const namespace = attempt(() => readlinkSync(`/proc/${pid}/ns/${kind}`));
      if (namespace !== undefined && !own.has(namespace)) found.add(namespace);
    }
  return found;
}

/** Whether a process is another node's: the kernel gives a namespace the number of one that is gone. */
function ofAnother(pid: string, name: string): boolean {
  const cgroups = attempt(() => readFileSync(`/proc/${pid}/cgroup`, 'utf8')) ?? '';
  return cgroups.includes('thaw-node-') && !cgroups.includes(name);
}

function cgroupsOf(name: string): string[] {
  const found: string[] = [];
  const visit = (directory: string, depth: number) => {
    for (const entry of attempt(() => readdirSync(directory, { withFileTypes: true })) ?? []) {
      if (!entry.isDirectory()) continue;
      const path = join(directory, entry.name);
      if (entry.name.includes(name)) found.push(path);
      else if (depth < 6) visit(path, depth + 1);
    }
  };
  visit('/sys/fs/cgroup', 0);
  return found;
}

async function expectNothingOf(name: string, namespaces: Set<string>): Promise<void> {
  const left = (): string[] => [
    ...membersOf(name).map((pid) => `process ${pid}`),
    ...cgroupsOf(name),
    ...[...namespacesOf(processes().filter((pid) => !ofAnother(pid, name)))].filter((n) => namespaces.has(n)),
    ...readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(name)),
    ...readdirSync(join(nodeDir, 'run')).filter((file) => file.includes(name)),
    ...loopDevices().filter((file) => file.includes(name)),
  ];
  let last: string[] = [];
  await until(
    'the node to be gone',
    () => {
      last = left();
      return last.length === 0;
    },
    20_000,
  ).catch(() => expect(last).toEqual([]));
}

/** Files behind the machine's loop devices. */
function loopDevices(): string[] {
  return readdirSync('/sys/block')
    .filter((name) => name.startsWith('loop'))
    .flatMap((name) => attempt(() => readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8')) ?? []);
}

/** The node's PID 1: the supervisor's child. */
function initOf(pid: number): number | undefined {
  const children = attempt(() => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')) ?? '';
  const first = Number(children.trim().split(' ')[0]);
  return first > 0 ? first : undefined;
}

const busy = ['--', 'node', 'test/host/busy.ts'];

describe('scripts/node', () => {
  it('ends with the exit code of the command', async () => {
    expect((await run(script, ['exec', '--', 'sh', '-c', 'exit 42'], { allowFailure: true })).code).toBe(42);
    expect((await run(script, ['exec', '--', 'sh', '-c', 'kill -9 $$'], { allowFailure: true })).code).toBe(
      137,
    );
    const missing = await run(script, ['exec', '--', 'no-such-program'], { allowFailure: true });
    expect(missing.code).toBe(127);
    expect(missing.stderr).toContain('Cannot find no-such-program in the node');
  });

  it('passes input, output and arguments on unchanged', async () => {
    const { stdout } = await run(
      script,
      ['exec', '--', 'sh', '-c', 'cat; printf "%s|" "$@"', '-', 'a b', '', '*'],
      {
        input: 'typed\n',
      },
    );
    expect(stdout).toBe('typed\na b||*|');
  });

  it('keeps /state for the next node of a name, and nothing else', async () => {
    const args = ['exec', '--persist', 'host-test', '--'];
    try {
      await run(script, [...args, 'sh', '-c', 'echo kept > /var/lib/thaw/file; echo gone > /etc/file']);
      const { stdout } = await run(script, [
        ...args,
        'sh',
        '-c',
        'cat /state/thaw/file; ls /etc/file 2>&1; true',
      ]);
      expect(stdout).toMatch(/^kept\n.*No such file/);
    } finally {
      await run(script, ['destroy', '--persist', 'host-test']);
    }
    expect(existsSync(join(nodeDir, 'state/host-test'))).toBe(false);
  });

  it('runs several nodes at a time that see nothing of each other', async () => {
    const listen =
      'echo $0 > /run/mark; python3 -m http.server -d /run 8080 & sleep 3; curl -s --retry 20 --retry-connrefused localhost:8080/mark';
    const both = await Promise.all(
      ['one', 'two'].map((name) => run(script, ['exec', '--', 'sh', '-c', listen, name])),
    );
    expect(both.map((r) => r.stdout)).toEqual(['one\n', 'two\n']);
  });

  it('forwards a signal and ends when the command does', async () => {
    const node = start([
      '--',
      'sh',
      '-c',
      'trap "echo asked; exit 3" TERM; echo up; while :; do sleep 0.1; done',
    ]);
    await until('the command to run', () => node.output().includes('up'));
    const name = nameOf(node.pid) ?? '';
    const namespaces = namespacesOf(membersOf(name));
    node.child.kill('SIGTERM');
    expect(await node.exited).toBe(3);
    expect(node.output()).toContain('asked');
    await expectNothingOf(name, namespaces);
  });

  it('leaves nothing when it ends while containers run', async () => {
    const node = start(busy);
    await until('the node to be busy', () => node.output().includes('busy\n'), 60_000);
    const name = nameOf(node.pid) ?? '';
    const members = membersOf(name);
    // node, containerd, shim, container, two sleeps: the check below would find them.
    expect(members.length).toBeGreaterThan(5);
    expect(cgroupsOf(name).length).toBeGreaterThan(0);
    const namespaces = namespacesOf(members);
    expect(namespaces.size).toBeGreaterThan(6);
    node.child.kill('SIGTERM');
    await node.exited;
    await expectNothingOf(name, namespaces);
  });

  // A v1 freezer keeps what it holds from dying, also by SIGKILL: a dump that was cut short.
  it.skipIf(!existsSync('/sys/fs/cgroup/freezer')).each(['SIGTERM', 'SIGKILL'] as const)(
    'leaves nothing when it ends by %s while a container is frozen',
    async (signal) => {
      const node = start(busy);
      await until('the node to be busy', () => node.output().includes('busy\n'), 60_000);
      const name = nameOf(node.pid) ?? '';
      const namespaces = namespacesOf(membersOf(name));
      const freezers = cgroupsOf(name).flatMap((top) =>
        readdirSync(top, { recursive: true, encoding: 'utf8' })
          .filter((path) => path.endsWith('/freezer.state'))
          .map((path) => join(top, path)),
      );
      expect(freezers).not.toEqual([]);
      for (const path of freezers) writeFileSync(path, 'FROZEN');
      node.child.kill(signal);
      await node.exited;
      await expectNothingOf(name, namespaces);
    },
  );

  it.each(['supervisor', 'init', 'shim', 'whole node'] as const)(
    'leaves nothing when the %s is killed with -9 while containers run',
    async (victim) => {
      const node = start(busy);
      await until('the node to be busy', () => node.output().includes('busy\n'), 60_000);
      const name = nameOf(node.pid) ?? '';
      const members = membersOf(name);
      const namespaces = namespacesOf(members);
      const init = initOf(node.pid) ?? -1;
      switch (victim) {
        case 'supervisor':
          node.child.kill('SIGKILL');
          break;
        case 'init':
          process.kill(init, 'SIGKILL');
          expect(await node.exited).toBe(137);
          break;
        case 'whole node':
          process.kill(init, 'SIGKILL');
          node.child.kill('SIGKILL');
          break;
        case 'shim': {
          // Killing what runs inside is no reason for the node to end.
          const shim = members.find((pid) =>
            attempt(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))?.includes('shim'),
          );
          process.kill(Number(shim), 'SIGKILL');
          await sleep(200);
          expect(node.child.exitCode).toBeNull();
          node.child.kill('SIGKILL');
          break;
        }
      }
      await expectNothingOf(name, namespaces);
    },
  );

  it('leaves nothing when it is killed with -9 at any moment of its start', async () => {
    for (let delay = 0; delay <= 700; delay += 50) {
      const node = start(busy);
      await sleep(delay);
      const name = nameOf(node.pid);
      const namespaces = name === undefined ? new Set<string>() : namespacesOf(membersOf(name));
      // Early on its child is not init but a helper of the script, which may well do without; so both are killed.
      const child = delay % 100 === 0 ? undefined : initOf(node.pid);
      if (child !== undefined) {
        attempt(() => process.kill(child, 'SIGKILL'));
        await sleep(50);
      }
      node.child.kill('SIGKILL');
      await node.exited;
      await expectNothingOf(name ?? `-${node.pid}-`, namespaces);
    }
  });

  it('is cleaned up by the next node when the watcher was killed too', async () => {
    const node = start(busy);
    await until('the node to be busy', () => node.output().includes('busy\n'), 60_000);
    const name = nameOf(node.pid) ?? '';
    const namespaces = namespacesOf(membersOf(name));
    // The watcher is the supervisor's former child: same command line, own session, not in the node's cgroups.
    const watchers = processes().filter((pid) => {
      const same =
        attempt(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8')) ===
        readFileSync(`/proc/${node.pid}/cmdline`, 'utf8');
      return same && Number(pid) !== node.pid && Number(pid) !== initOf(node.pid) && watches(pid, name);
    });
    expect(watchers).toHaveLength(1);
    process.kill(Number(watchers[0]), 'SIGKILL');
    node.child.kill('SIGKILL');
    await until('the processes to be gone', () => membersOf(name).length === 0);
    expect(cgroupsOf(name).length).toBeGreaterThan(0);
    await run(script, ['exec', '--', 'true']);
    await expectNothingOf(name, namespaces);
  });
});

/** Whether a process waits for the lock of a node. */
function watches(pid: string, name: string): boolean {
  const lock = statSync(join(nodeDir, 'run', `${name}.lock`));
  return (attempt(() => readdirSync(`/proc/${pid}/fd`)) ?? []).some(
    (fd) => attempt(() => statSync(`/proc/${pid}/fd/${fd}`))?.ino === lock.ino,
  );
}
