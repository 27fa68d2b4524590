import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { containerd, google } from '../../proto/gen/shim.js';
import { Code } from '../../proto/status.ts';
import { groupKey, socketPath } from './address.ts';
import { parseFlags, requireContainer } from './flags.ts';
import { type Listening, listenOrShare } from './listen.ts';
import { parseStartInput } from './params.ts';
import { cgroupRoots } from './placement.ts';

describe('parseFlags', () => {
  it('reads containerd’s command lines, in either order', () => {
    const expected = { action: 'start', namespace: 'k8s.io', id: 't1', address: '/c.sock', debug: true };
    expect(
      parseFlags(
        '-namespace k8s.io -address /c.sock -publish-binary /usr/bin/containerd -id t1 -debug start'.split(
          ' ',
        ),
      ),
    ).toMatchObject(expected);
    expect(
      parseFlags('--id=t1 --debug=true -address=/c.sock -namespace=k8s.io start -ignored'.split(' ')),
    ).toMatchObject(expected);
  });

  it('knows delete, serve, -info and -v', () => {
    expect(parseFlags(['-bundle', '/b', '-id', 'x', 'delete'])).toMatchObject({
      action: 'delete',
      bundle: '/b',
    });
    expect(parseFlags(['-id', 'x', '-socket', '/s'])).toMatchObject({ action: 'serve', socket: '/s' });
    expect(parseFlags(['-info'])).toMatchObject({ action: 'info' });
    expect(parseFlags(['--version'])).toMatchObject({ action: 'version' });
    expect(parseFlags(['-debug=false', 'start'])).toMatchObject({ debug: false });
    expect(parseFlags(['-id', 'x', '--', 'start'])).toMatchObject({ action: 'start' });
  });

  it('takes a dash in a value for a value', () => {
    expect(parseFlags(['-id', '-x', 'start'])).toMatchObject({ id: '-x', action: 'start' });
  });

  it.each([
    [['-nonsense', 'start'], 'flag provided but not defined: -nonsense'],
    [['-id'], 'flag needs an argument: -id'],
    [['stop'], 'Unknown action "stop"; use start or delete'],
  ])('refuses %j', (args, message) => {
    expect(() => parseFlags(args)).toThrow(expect.objectContaining({ code: Code.invalidArgument, message }));
  });

  it('refuses names that lead out of a directory', () => {
    const flags = parseFlags(['-namespace', 'default', '-id', '../../etc', 'delete']);
    expect(() => requireContainer(flags)).toThrow('Cannot use "../../etc" as a id');
    expect(() => requireContainer(parseFlags(['-id', 'x', 'start']))).toThrow(
      'shim namespace cannot be empty',
    );
  });
});

describe('socketPath', () => {
  it('hashes address, namespace and group, joined as a path', () => {
    const hash = createHash('sha256').update('/run/containerd/containerd.sock/k8s.io/pod1').digest('hex');
    const group = groupKey({ 'io.kubernetes.cri.sandbox-id': 'pod1' }, 'c1');
    expect(socketPath('/run/containerd/containerd.sock', 'k8s.io', group)).toBe(`/run/containerd/s/${hash}`);
  });

  it('prefers the explicit group, and falls back to the id', () => {
    const sandbox = { 'io.kubernetes.cri.sandbox-id': 'pod1' };
    expect(groupKey({ ...sandbox, 'io.containerd.runc.v2.group': 'g' }, 'c1')).toBe('g');
    expect(groupKey(undefined, 'c1')).toBe('c1');
  });
});

describe('parseStartInput', () => {
  const flags = { id: 'c1', namespace: 'k8s.io' };
  const type_url = 'containerd.runc.v1.Options';
  const options = { type_url, value: containerd.runc.v1.Options.encode({ shimCgroup: '/x' }).finish() };

  it('takes nothing for no options', () => {
    expect(parseStartInput(new Uint8Array(), flags)).toEqual({ options: undefined, socketDir: undefined });
  });

  it('reads an Any', () => {
    const input = google.protobuf.Any.encode(options).finish();
    expect(parseStartInput(input, flags).options).toMatchObject({ type_url });
  });

  it('reads BootstrapParams, also with a negative log level', () => {
    const input = containerd.runtime.bootstrap.v1.BootstrapParams.encode({
      instanceId: 'c1',
      namespace: 'k8s.io',
      logLevel: -8,
      extensions: [{ value: { type_url: 'other.Extension' } }, { value: options }],
      socketDir: '/run/other',
    }).finish();
    const params = parseStartInput(input, flags);
    expect(params.socketDir).toBe('/run/other');
    expect(params.options?.type_url).toBe(type_url);
  });

  it('refuses bytes that are neither', () => {
    expect(() => parseStartInput(Buffer.from([0x0a, 0x7f]), flags)).toThrow(
      expect.objectContaining({ code: Code.invalidArgument }),
    );
  });
});

describe('listenOrShare', () => {
  let dir: string;
  const open: Server[] = [];
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'listen-'));
  });
  afterEach(async () => {
    for (const server of open.splice(0)) server.close();
    await rm(dir, { recursive: true });
  });
  const keep = (listening: Listening) => {
    if (listening.kind === 'new') open.push(listening.server);
    return listening;
  };

  it('makes a socket for nobody but us', async () => {
    const path = join(dir, 's', 'socket');
    expect(keep(await listenOrShare(path)).kind).toBe('new');
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await stat(join(dir, 's'))).mode & 0o777).toBe(0o700);
  });

  it('shares a socket that answers', async () => {
    const path = join(dir, 'socket');
    const server = createServer().listen(path);
    open.push(server);
    await new Promise((resolve) => server.once('listening', resolve));
    expect(await listenOrShare(path)).toEqual({ kind: 'shared' });
  });

  it('replaces a socket whose owner is gone', async () => {
    const path = join(dir, 'socket');
    const { execFileSync } = await import('node:child_process');
    // A process that ends without closing leaves its socket.
    execFileSync(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => process.exit(0))`,
    ]);
    expect(await readdir(dir)).toEqual(['socket']);
    expect(keep(await listenOrShare(path)).kind).toBe('new');
  });

  it('refuses a path that no socket can have', async () => {
    await expect(listenOrShare(join(dir, 'x'.repeat(120)))).rejects.toMatchObject({
      code: Code.invalidArgument,
    });
  });
});

describe('cgroupRoots', () => {
  it('names every v1 hierarchy, or the unified one where there is no other', () => {
    const v1 = 'cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n';
    const v2 = 'cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n';
    expect(cgroupRoots(v1 + v2)).toEqual(['/sys/fs/cgroup/cpu', '/sys/fs/cgroup/pids']);
    expect(cgroupRoots(v2)).toEqual(['/sys/fs/cgroup/unified']);
  });
});
