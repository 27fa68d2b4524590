import { describe, expect, it } from 'vitest';
import type { TaskRights } from '../../checkpoint/criu/task-rights.ts';
import { capabilityMask, capabilityNames, excessRights, rightsFromStatus } from './rights.ts';

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
  capPermitted: capabilityMask(['CAP_CHOWN']),
  capEffective: 0n,
  capBounding: capabilityMask(granted),
  capAmbient: 0n,
  noNewPrivileges: true,
  seccompMode: 2,
};

describe('excessRights', () => {
  it('lets a task have what the pod grants, or less', () => {
    expect(excessRights(modest, spec)).toEqual([]);
  });
  it.each([
    [{ capBounding: capabilityMask(['SYS_ADMIN']) }, /CAP_SYS_ADMIN in its bounding set/],
    [{ capPermitted: capabilityMask(['SYS_PTRACE']) }, /CAP_SYS_PTRACE in its permitted set/],
    [{ capEffective: capabilityMask(['BPF']) }, /CAP_BPF in its effective set/],
    [{ capInheritable: capabilityMask(['MKNOD']) }, /CAP_MKNOD in its inheritable set/],
    [{ capAmbient: capabilityMask(['CHOWN']) }, /CAP_CHOWN in its ambient set/],
    [{ noNewPrivileges: false }, /may gain privileges/],
    [{ seccompMode: 0 }, /without the pod's seccomp profile/],
    [{ uids: [1000, 0, 1000, 1000] }, /runs as root, the pod asks for user 1000/],
  ])('finds what the pod does not grant (case %#)', (change, message) => {
    const found = excessRights({ ...modest, ...change }, spec);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(message);
  });
  it('lets a daemon of a root pod drop to another user and back', () => {
    const root = { process: { capabilities: { bounding: ['CAP_SETUID'] } } };
    expect(excessRights({ ...modest, uids: [0, 0, 0, 0], capPermitted: 0n, capBounding: 0n }, root)).toEqual(
      [],
    );
  });
});

it('capability names and masks are each other’s inverse', () => {
  expect(capabilityMask(['CAP_SYS_ADMIN'])).toBe(1n << 21n);
  expect(capabilityMask(['CAP_CHECKPOINT_RESTORE'])).toBe(1n << 40n);
  expect(capabilityNames(capabilityMask(granted))).toEqual(granted);
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
