import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';
import { type FakeMachine, fakeMachine } from './fake-machine.test-helper.ts';
import type { Finding } from './finding.ts';
import { diagnose, reportLines } from './run.ts';

const dropIn = readFileSync(join(import.meta.dirname, '../../deploy/containerd/containerd-2.toml'), 'utf8');
const DUMP = 'containerd --config /etc/containerd/config.toml config dump';

const look = ({ programs, ...change }: FakeMachine = {}): Promise<Finding[]> =>
  diagnose(fakeMachine({ ...change, programs: { [DUMP]: dropIn, ...programs } }), {
    containerdConfig: '/etc/containerd/config.toml',
  });
const bad = (findings: Finding[]) => findings.filter(({ status }) => status !== 'ok');
const refuse = async () => {
  throw new CliError(Code.unavailable, 'nobody is there');
};

it('finds nothing on a node where all is right, and says what it looked at', async () => {
  const findings = await look();
  expect(bad(findings)).toEqual([]);
  expect(findings.map(({ check }) => check)).toEqual([
    'kernel',
    'overlay file system',
    'checkpoint/restore',
    'userfaultfd',
    'lazy layers',
    'cgroup',
    'CRIU',
    'runc',
    'file system',
    'disk space',
    'configuration of thaw-snapshotter',
    'thaw-snapshotter',
    'containerd',
    'containerd configuration',
    'shim',
    'snapshotter in containerd',
    'images',
  ]);
});

const v1 = Object.fromEntries(
  ['cpu', 'memory', 'pids', 'freezer'].map((name) => [`/sys/fs/cgroup/${name}`, '']),
);
const ran = (stderr: string) => ({ code: 1, stdout: '', stderr });
const space = (freeBytes: bigint, freeInodes: bigint) => async () => ({
  totalBytes: 1000n,
  freeBytes,
  totalInodes: 100n,
  freeInodes,
});
const checkpointImage = (unpackedBy: string[]) => async () => [
  { name: 'r/a:1', isCheckpoint: true, unpackedBy },
];

describe('one thing that is wrong is the one that is named', () => {
  it.each<[Finding['status'], string, FakeMachine, RegExp]>([
    ['failed', 'kernel', { kernel: '5.4.0' }, /older than 5.10/],
    ['failed', 'overlay file system', { files: { '/proc/filesystems': '\terofs\n' } }, /does not have it/],
    ['warning', 'lazy layers', { files: { '/dev/fuse': undefined } }, /no \/dev\/fuse/],
    ['warning', 'lazy layers', { files: { '/proc/filesystems': 'nodev\toverlay\n' } }, /no EROFS/],
    [
      'warning',
      'lazy layers',
      { kernel: '6.6.0', files: { '/dev/loop-control': undefined } },
      /no loop devices/,
    ],
    [
      'failed',
      'checkpoint/restore',
      { files: { '/proc/sys/kernel/ns_last_pid': undefined } },
      /CONFIG_CHECK/,
    ],
    [
      'warning',
      'userfaultfd',
      { files: { '/proc/sys/vm/unprivileged_userfaultfd': undefined } },
      /waits until/,
    ],
    ['failed', 'cgroup', { files: { '/sys/fs/cgroup/cgroup.controllers': 'cpu pids' } }, /v2 without memory/],
    ['failed', 'cgroup', { files: { '/sys/fs/cgroup/cgroup.controllers': undefined } }, /of v1, cpu, memory/],
    ['failed', 'CRIU', { programs: { 'criu --version': undefined } }, /there is none/],
    ['failed', 'CRIU', { programs: { 'criu --version': 'Version: 4.1.1\n' } }, /cannot save sockets/],
    ['failed', 'CRIU', { kernel: '6.14.1', programs: { 'criu --version': 'Version: 3.17.1\n' } }, /vdso/],
    ['failed', 'CRIU', { programs: { 'criu check': ran('Error: no ptrace\n') } }, /says: Error: no ptrace/],
    ['failed', 'runc', { programs: { 'runc --version': undefined } }, /not in PATH/],
    ['warning', 'runc', { programs: { 'runc --version': 'runc version 1.0.3' } }, /older/],
    [
      'failed',
      'file system',
      { tryOverlay: async () => 'it lacks d_type' },
      /\/var\/lib\/thaw: it lacks d_type/,
    ],
    ['warning', 'disk space', { diskSpace: space(100n, 50n) }, /10 % free/],
    ['failed', 'disk space', { diskSpace: space(5n, 50n) }, /0 % free/],
    ['failed', 'disk space', { diskSpace: space(900n, 0n) }, /0 % of the inodes/],
    [
      'failed',
      'configuration of thaw-snapshotter',
      { programs: { 'thaw-snapshotter --check': ran('thaw-snapshotter: unknown key "rot"\n') } },
      /^unknown key "rot"$/,
    ],
    ['failed', 'thaw-snapshotter', { dial: refuse }, /nobody is there/],
    ['failed', 'thaw-snapshotter', { checkpoints: refuse }, /nobody is there/],
    ['failed', 'containerd', { view: { version: refuse } }, /nobody is there/],
    ['failed', 'containerd configuration', { programs: { [DUMP]: ran('bad toml\n') } }, /bad toml/],
    [
      'failed',
      'containerd configuration',
      {
        programs: {
          [DUMP]: {
            code: 0,
            stdout: dropIn,
            stderr:
              'level=warning msg="Ignoring unknown key in TOML for plugin" error="strict mode" key=cni plugin=io.containerd.grpc.v1.cri\n',
          },
        },
      },
      /ignores CRI settings of version 2/,
    ],
    ['failed', 'shim', { which: async () => undefined }, /no containerd-shim-thaw-v2 in PATH/],
    ['failed', 'snapshotter in containerd', { view: { trySnapshotter: refuse } }, /nobody is there/],
    [
      'warning',
      'image',
      { view: { images: checkpointImage(['overlayfs']) } },
      /r\/a:1 is unpacked under overlayfs/,
    ],
    [
      'warning',
      'container',
      {
        view: {
          containers: async () => [
            { id: 'c1', image: 'r/a:1', runtime: 'io.containerd.runc.thaw.v2', snapshotter: 'overlayfs' },
          ],
        },
      },
      /c1 \(r\/a:1\) runs under thaw on overlayfs/,
    ],
  ])('%s: %s', async (status, check, change, found) => {
    expect(bad(await look(change))).toEqual([
      { check, status, found: expect.stringMatching(found), mend: expect.stringMatching(/./) },
    ]);
  });

  it('and what is right is not', async () => {
    const cgroup1 = { files: { '/sys/fs/cgroup/cgroup.controllers': undefined, ...v1 } };
    for (const change of [
      cgroup1,
      { view: { images: checkpointImage(['thaw', 'overlayfs']) } },
      { view: { images: checkpointImage([]) } },
      { kernel: '6.12.0', programs: { 'criu --version': 'Version: 4.0\n' } },
    ])
      expect(bad(await look(change))).toEqual([]);
  });
});

it('goes on where something cannot be looked at', async () => {
  const findings = await look({
    diskSpace: async () => {
      throw new Error('EACCES');
    },
  });
  expect(bad(findings)).toMatchObject([{ check: 'disk', found: 'cannot be looked at: EACCES' }]);
  expect(findings.at(-1)?.check).toBe('images');
});

it('says what to do below what was found, safe to print', () => {
  expect(reportLines({ check: 'runc', status: 'ok', found: '1.3' })).toEqual(['ok    runc: 1.3']);
  expect(reportLines({ check: 'runc', status: 'failed', found: 'a\u001b[2J', mend: 'b' })).toEqual([
    'FAIL  runc: a?[2J',
    '      → b',
  ]);
});
