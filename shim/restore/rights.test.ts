import { describe, expect, it } from 'vitest';
import type { TaskRights } from '../../checkpoint/criu/task-rights.ts';
import { labelFlags, labelOf, readLabel } from '../lsm.ts';
import { capabilityMask, capabilityNames } from './capabilities.ts';
import { hardLimits, UNLIMITED } from './grants.ts';
import { excessOfProcess, excessOfRunning, excessRights, rightsFromStatus } from './rights.ts';

const granted = ['CAP_CHOWN', 'CAP_NET_BIND_SERVICE'];
const spec = {
  process: {
    user: { uid: 1000, gid: 1000 },
    capabilities: { bounding: granted, permitted: granted, effective: granted },
    noNewPrivileges: true,
  },
  linux: { seccomp: { defaultAction: 'SCMP_ACT_ERRNO' } },
};
const modest: TaskRights = {
  pid: 7,
  uids: [1000, 1000, 1000, 1000],
  gids: [1000, 1000, 1000, 1000],
  groups: [],
  capInheritable: 0n,
  capPermitted: 0n,
  capEffective: 0n,
  capBounding: capabilityMask(granted),
  capAmbient: 0n,
  noNewPrivileges: true,
  seccompMode: 2,
  seccompFilter: 0,
  securebits: 0,
  lsmLabel: undefined,
  lsmSocketLabel: undefined,
  schedPolicy: 0,
  nice: 0,
};
const grants = { spec, nice: 0, ownLabel: undefined };

describe('what runs', () => {
  it('lets a task have what the pod grants, or less', () => {
    expect(excessOfRunning(modest, grants)).toEqual([]);
  });
  it.each([
    [{ capBounding: capabilityMask(['SYS_ADMIN']) }, /CAP_SYS_ADMIN in its bounding set/],
    [{ capPermitted: capabilityMask(['SYS_PTRACE']) }, /CAP_SYS_PTRACE in its permitted set/],
    [{ capEffective: capabilityMask(['BPF']) }, /CAP_BPF in its effective set/],
    [{ capInheritable: capabilityMask(['MKNOD']) }, /CAP_MKNOD in its inheritable set/],
    [{ capAmbient: capabilityMask(['CHOWN']) }, /CAP_CHOWN in its ambient set/],
    [{ noNewPrivileges: false }, /may gain privileges/],
    [{ seccompMode: 0 }, /without the pod's seccomp profile/],
    [{ capPermitted: capabilityMask(['CAP_CHOWN']) }, /CAP_CHOWN in its permitted set/],
    [{ uids: [1000, 0, 1000, 1000] }, /runs as user 0, the pod asks for user 1000/],
    [{ gids: [1000, 1000, 0, 1000] }, /is in group 0, the pod asks for 1000/],
    [{ groups: [1000, 27] }, /is in group 27/],
    [{ securebits: 0x10 }, /has secure bits 16/],
    [{ lsmLabel: 'unconfined_t' }, /has the label unconfined_t, the pod none/],
    [{ lsmSocketLabel: 'x' }, /gives its sockets the label x/],
    [{ schedPolicy: 1 }, /has a real-time priority/],
    [{ nice: -5 }, /has the nice value -5, the pod 0/],
  ])('finds what the pod does not grant (case %#)', (change, message) => {
    const found = excessOfRunning({ ...modest, ...change }, grants);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(message);
  });
  it('lets a daemon of a root pod drop to another user and back', () => {
    const spec = {
      process: { capabilities: { bounding: ['CAP_SETUID', 'CAP_SETGID'] }, noNewPrivileges: true },
    };
    const task = { ...modest, uids: [0, 33, 33, 33], gids: [33, 33, 33, 33], capBounding: 0n };
    expect(excessRights(task, { ...grants, spec })).toEqual([]);
  });
  it('wants the pod’s label on every task, and CRIU is told to give it', () => {
    const labelled = {
      process: { ...spec.process, apparmorProfile: 'cri-containerd.apparmor.d' },
      linux: spec.linux,
    };
    expect(excessRights(modest, { ...grants, spec: labelled })).toEqual([
      "process 7 runs without the pod's label cri-containerd.apparmor.d",
    ]);
    expect(excessRights({ ...modest, lsmLabel: 'other' }, { ...grants, spec: labelled })).toEqual([]);
    expect(labelOf(labelled)).toEqual({ lsm: 'apparmor', label: 'cri-containerd.apparmor.d' });
    expect(labelFlags(labelled)).toEqual(['--lsm-profile', 'apparmor:cri-containerd.apparmor.d']);
    expect(labelFlags({ process: { apparmorProfile: 'unconfined' } })).toEqual([]);
  });

  it('has CRIU put the mounts into the context of the pod, under SELinux alone', () => {
    const linux = { mountLabel: 'system_u:object_r:container_file_t:s0:c1,c2' };
    const process = { selinuxLabel: 'system_u:system_r:container_t:s0:c1,c2' };
    expect(labelFlags({ process, linux })).toEqual([
      ...['--lsm-profile', `selinux:${process.selinuxLabel}`],
      ...['--lsm-mount-context', linux.mountLabel],
    ]);
    expect(labelFlags({ process: { apparmorProfile: 'p' }, linux })).toEqual(['--lsm-profile', 'apparmor:p']);
    expect(labelFlags({ linux })).toEqual([]);
  });
});

it('capability names and masks are each other’s inverse', () => {
  expect(capabilityMask(['CAP_SYS_ADMIN'])).toBe(1n << 21n);
  expect(capabilityMask(['CAP_CHECKPOINT_RESTORE'])).toBe(1n << 40n);
  expect(capabilityNames(capabilityMask(granted))).toEqual(granted);
});

it('reads no groups where there are none', () => {
  expect(rightsFromStatus(3, 'Groups:\t \nNStgid:\t5786\t1\n').groups).toEqual([]);
});

it('reads /proc/PID/status', () => {
  const status = [
    'Uid:\t0\t1\t2\t3',
    'Gid:\t4\t5\t6\t7',
    'Groups:\t10 20 ',
    'CapInh:\t0000000000000000',
    'CapPrm:\t0000000020000420',
    'CapEff:\t0000000000000020',
    'CapBnd:\t0000000020000420',
    'CapAmb:\t0000000000000000',
    'NoNewPrivs:\t1',
    'Seccomp:\t2',
  ].join('\n');
  expect(rightsFromStatus(3, status)).toMatchObject({
    uids: [0, 1, 2, 3],
    groups: [10, 20],
    capPermitted: 0x20000420n,
    noNewPrivileges: true,
    seccompMode: 2,
  });
});

it('holds limits, oom_score_adj and the login user against what the container would have anew', () => {
  const full = {
    ...grants,
    hardLimits: [10n, UNLIMITED],
    oomScoreAdj: 500,
    loginUid: 0xffff_ffff,
    hiddenPaths: new Set<string>(),
    resolve: (path: string) => path,
  };
  const limit = (hard: bigint) => ({ soft: 0n, hard });
  const within = { pid: 7, rlimits: [limit(10n), limit(UNLIMITED)], oomScoreAdj: 500, loginUid: 0xffff_ffff };
  expect(excessOfProcess(within, full)).toEqual([]);
  const beyond = { pid: 7, rlimits: [limit(11n)], oomScoreAdj: 499, loginUid: 0 };
  expect(excessOfProcess(beyond, full)).toEqual([
    'process 7 has RLIMIT_CPU 11, the pod 10',
    'process 7 has oom_score_adj 499, the pod 500',
    'process 7 has the login user 0, which the pod has not',
  ]);
  const may = { process: { capabilities: { bounding: ['CAP_SYS_RESOURCE', 'CAP_AUDIT_CONTROL'] } } };
  expect(excessOfProcess(beyond, { ...full, spec: may })).toEqual([]);
});

it('reads hard limits of /proc, with those of the spec in their place', () => {
  const text = [
    'Limit                     Soft Limit           Hard Limit           Units     ',
    'Max cpu time              unlimited            unlimited            seconds   ',
    'Max file size             5                    10                   bytes     ',
  ].join('\n');
  expect(hardLimits({}, text)).toEqual([UNLIMITED, 10n]);
  const rlimits = [{ type: 'RLIMIT_FSIZE', soft: 1, hard: 2 }];
  expect(hardLimits({ process: { rlimits } }, text)).toEqual([UNLIMITED, 2n]);
});

it.each([
  ['unconfined\n', undefined],
  ['', undefined],
  ['docker-default (enforce)\n', 'docker-default'],
  ['system_u:system_r:container_t:s0:c1,c2\0', 'system_u:system_r:container_t:s0:c1,c2'],
])('the label in %j is %s', (text, label) => {
  expect(readLabel(text)).toBe(label);
});
