import { describe, expect, it } from 'vitest';
import type { Handlers } from './commands/handlers.ts';
import { createProgram, exitStatusOfCommander } from './program.ts';

async function run(...argv: string[]) {
  const calls: [string, unknown][] = [];
  const record = (name: string) => async (options: unknown) => void calls.push([name, options]);
  const handlers: Handlers = {
    build: record('build'),
    checkpoint: record('checkpoint'),
    convert: record('convert'),
    inspect: record('inspect'),
    fetch: record('fetch'),
    status: record('status'),
    prefetch: record('prefetch'),
    evict: record('evict'),
    why: record('why'),
    retry: record('retry'),
    convertLazy: record('convertLazy'),
    record: record('record'),
    doctor: record('doctor'),
    guard: record('guard'),
    install: record('install'),
    uninstall: record('uninstall'),
    daemonset: record('daemonset'),
  };
  let out = '';
  let err = '';
  const write = {
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
  };
  let status: number | undefined = 0;
  try {
    await createProgram({ version: '1.2.3', handlers, write }).parseAsync(['node', 'thaw', ...argv]);
  } catch (error) {
    status = exitStatusOfCommander(error);
  }
  return { calls, out, err, status };
}

describe('argv of build', () => {
  it('has defaults for everything but file and image', async () => {
    const { calls } = await run('build', 'server.toml', '--image', 'localhost:5000/a:b');
    expect(calls).toEqual([
      [
        'build',
        {
          file: 'server.toml',
          image: 'localhost:5000/a:b',
          dryRun: false,
          verify: true,
          lazy: false,
          snapshotter: 'overlayfs',
          systemdCgroup: false,
          json: false,
          plainHttp: false,
          hostsDir: '/etc/containerd/certs.d',
          workDir: '/var/lib/thaw/work',
          address: '/run/containerd/containerd.sock',
          namespace: 'k8s.io',
        },
      ],
    ]);
  });
  it('unpacks lazy layers where they can be read on demand, unless told otherwise', async () => {
    const snapshotters = [];
    for (const more of [['--lazy'], ['--lazy', '--snapshotter', 'overlayfs']]) {
      const { calls } = await run('build', 'server.toml', '--image', 'localhost:5000/a:b', ...more);
      snapshotters.push(calls);
    }
    expect(snapshotters).toMatchObject([
      [['build', { lazy: true, snapshotter: 'thaw' }]],
      [['build', { lazy: true, snapshotter: 'overlayfs' }]],
    ]);
  });
  it('cannot do without an image', async () => {
    const { calls, err, status } = await run('build', 'server.toml');
    expect({ calls, status }).toEqual({ calls: [], status: 2 });
    expect(err).toContain("required option '--image <reference>' not specified");
  });
});

describe('argv of record', () => {
  it('says how long', async () => {
    const { calls } = await run('record', '--seconds', '60');
    expect(calls).toMatchObject([['record', { seconds: 60, socket: '/run/thaw/thaw.sock' }]]);
    for (const wrong of ['0', '901', '1.5', 'x'])
      expect((await run('record', '--seconds', wrong)).status).toBe(2);
    const converted = await run('convert', '--lazy', 'a:1', 'b:1', '--order', 'order.json');
    expect(converted.calls).toMatchObject([['convertLazy', { order: 'order.json' }]]);
    expect((await run('convert', 'a.tar', '--image', 'b:1', '--order', 'order.json')).calls).toEqual([]);
  });
});

describe('argv of convert', () => {
  it('goes one way or the other, or makes lazy layers', async () => {
    const lazy = await run('convert', '--lazy', 'a:1', 'b:1');
    expect(lazy.calls).toMatchObject([['convertLazy', { source: 'a:1', target: 'b:1' }]]);
    const into = await run('convert', 'a.tar', '--image', 'localhost:5000/a:b', '--base', 'base:1');
    expect(into.calls).toMatchObject([
      ['convert', { to: 'image', archive: 'a.tar', image: 'localhost:5000/a:b', base: 'base:1' }],
    ]);
    const out = await run('convert', 'localhost:5000/a:b', '--archive', 'a.tar');
    expect(out.calls).toMatchObject([
      ['convert', { to: 'archive', reference: 'localhost:5000/a:b', archive: 'a.tar' }],
    ]);
  });
  it.each([
    [['convert', 'a.tar'], undefined],
    [['convert', '--lazy', 'a:1'], undefined],
    [['convert', '--lazy', 'a:1', 'b:1', '--image', 'c:1'], undefined],
    [['convert', 'a.tar', '--image', 'x:1', '--archive', 'y'], 2],
    [['convert', 'x:1', '--archive', 'y', '--base', 'z'], 2],
  ])('%j says neither', async (argv, status) => {
    await expect(run(...argv)).resolves.toMatchObject({ calls: [], status });
  });
});

describe('argv of checkpoint', () => {
  it('has defaults for everything but container and image', async () => {
    const { calls } = await run('checkpoint', 'abc', '--image', 'localhost:5000/a:b');
    expect(calls).toEqual([
      [
        'checkpoint',
        {
          container: 'abc',
          image: 'localhost:5000/a:b',
          stop: false,
          verify: true,
          json: false,
          plainHttp: false,
          hostsDir: '/etc/containerd/certs.d',
          workDir: '/var/lib/thaw/work',
          address: '/run/containerd/containerd.sock',
          namespace: 'k8s.io',
        },
      ],
    ]);
  });
  it('takes a probe, and does without a trial where that is asked for', async () => {
    const { calls } = await run(
      'checkpoint',
      'abc',
      '--image',
      'a/b:c',
      '--probe',
      'tcp://localhost:80',
      '--no-verify',
    );
    expect(calls[0]?.[1]).toMatchObject({ probe: 'tcp://localhost:80', verify: false });
  });
  it('takes global options on both sides of the command', async () => {
    const { calls } = await run(
      '--namespace',
      'default',
      'checkpoint',
      'abc',
      '--image',
      'x',
      '--address',
      '/s',
    );
    expect(calls[0]?.[1]).toMatchObject({ namespace: 'default', address: '/s' });
  });
});

describe('argv of inspect', () => {
  it('takes an image', async () => {
    const { calls } = await run('inspect', 'a/b:c', '--verify', '--plain-http');
    expect(calls).toEqual([
      [
        'inspect',
        {
          source: 'registry',
          reference: 'a/b:c',
          json: false,
          verify: true,
          plainHttp: true,
          hostsDir: '/etc/containerd/certs.d',
        },
      ],
    ]);
  });
  it('takes a directory', async () => {
    const { calls } = await run('inspect', '--file', 'dir', '--json');
    expect(calls[0]?.[1]).toMatchObject({ source: 'directory', directory: 'dir', json: true });
  });
  it('takes exactly one of them', async () => {
    expect((await run('inspect')).status).toBe(2);
    expect((await run('inspect', 'a', '--file', 'b')).status).toBe(2);
  });
});

describe('argv of prefetch and status', () => {
  it('have defaults for all but the image', async () => {
    const { calls } = await run('prefetch', 'a/b:c');
    expect(calls).toEqual([
      [
        'prefetch',
        {
          reference: 'a/b:c',
          runtimeHandler: 'thaw',
          socket: '/run/thaw/thaw.sock',
          json: false,
          address: '/run/containerd/containerd.sock',
          namespace: 'k8s.io',
        },
      ],
    ]);
    expect((await run('status')).calls[0]?.[1]).toMatchObject({ watch: false });
    expect((await run('status', '-w')).calls[0]?.[1]).toMatchObject({ watch: true });
  });
});

describe('argv of why and retry', () => {
  it('take one or all', async () => {
    expect((await run('why')).calls[0]?.[1]).toMatchObject({ json: false });
    expect((await run('why', 'models/llm-0', '--json')).calls[0]?.[1]).toMatchObject({
      pod: 'models/llm-0',
      json: true,
    });
    expect((await run('retry', 'abc')).calls[0]?.[1]).toMatchObject({ checkpoint: 'abc' });
    expect((await run('retry', '--all')).calls[0]?.[1]).not.toHaveProperty('checkpoint');
  });
});

describe('argv of install and uninstall', () => {
  it('has the places of a node as defaults', async () => {
    const places = {
      prefix: '/opt/thaw',
      binDir: '/usr/local/bin',
      unitDir: '/etc/systemd/system',
      containerdConfig: '/etc/containerd/config.toml',
      dryRun: false,
      address: '/run/containerd/containerd.sock',
      namespace: 'k8s.io',
    };
    expect((await run('install')).calls).toEqual([['install', { ...places, images: 'node' }]]);
    expect((await run('uninstall')).calls).toEqual([
      ['uninstall', { ...places, force: false, purge: false }],
    ]);
  });
  it('knows which images there are', async () => {
    expect((await run('install', '--images', 'class')).calls[0]?.[1]).toMatchObject({ images: 'class' });
    expect(await run('install', '--images', 'some')).toMatchObject({ status: 2, calls: [] });
  });
  it('shows how to try them', async () => {
    for (const command of ['install', 'uninstall'])
      expect((await run(command, '--help')).out).toContain('--dry-run');
  });
});

describe('a wrong command line', () => {
  it.each([
    [['checkpoint']],
    [['checkpoint', 'abc']],
    [['chekpoint', 'abc']],
    [['status', '--colour']],
    [['--namespace', '', 'status']],
    [['evict']],
    [['prefetch']],
    [['retry']],
    [['retry', 'abc', '--all']],
    [[]],
  ])('%j ends with status 2, words on standard error and nothing done', async (argv) => {
    const { status, err, out, calls } = await run(...argv);
    expect(status).toBe(2);
    expect(err).not.toBe('');
    expect(out).toBe('');
    expect(calls).toEqual([]);
  });
  it('suggests the command that was meant', async () => {
    expect((await run('chekpoint')).err).toContain('checkpoint');
  });
});

describe('help', () => {
  it('shows every command and examples, with status 0', async () => {
    const { out, status } = await run('--help');
    expect(status).toBe(0);
    for (const word of [
      'checkpoint',
      'inspect',
      'fetch',
      'prefetch',
      'status',
      'evict',
      'why',
      'retry',
      'doctor',
      'install',
      'uninstall',
      'Examples:',
      'Exit status:',
    ])
      expect(out).toContain(word);
    expect(out).not.toMatch(/guard|daemonset/);
  });
  it.each(['checkpoint', 'inspect', 'fetch', 'prefetch', 'status', 'evict', 'why', 'retry', 'doctor'])(
    'of %s names its options',
    async (command) => {
      const { out, status } = await run(command, '--help');
      expect(status).toBe(0);
      expect(out).toContain('--json');
    },
  );
  it('prints the version', async () =>
    expect(await run('--version')).toMatchObject({ out: '1.2.3\n', status: 0 }));
});
