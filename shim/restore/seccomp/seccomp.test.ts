import { describe, expect, it } from 'vitest';
import { Magic, readMessages, writeMessages } from '../../../checkpoint/criu/framing.ts';
import { putBelow } from '../../../checkpoint/criu/seccomp-image.ts';
import { filtersOf, type ProcessFilters } from '../../../checkpoint/criu/task-filters.ts';
import type { TaskRights } from '../../../checkpoint/criu/task-rights.ts';
import { criu } from '../../../proto/gen/criu-forge.js';
import { rightsFromStatus } from '../rights.ts';
import { runFilter } from './bpf.test-helper.ts';
import { compileProfile } from './compile.ts';
import { profileObstacles } from './index.ts';
import { type Operator, readProfile, SCMP_ARCH } from './profile.ts';

const X86_64 = 0xc000_003e;
const I386 = 0x4000_0003;
const ARM64 = 0xc000_00b7;
const ALLOW = 0x7fff_0000;
const refused = (errno = 1) => 0x5_0000 + errno;

const compiled = (seccomp: object, native: string = SCMP_ARCH.x86_64) =>
  compileProfile(readProfile(seccomp), native);

describe('a profile', () => {
  const program = compiled({
    defaultAction: 'SCMP_ACT_ERRNO',
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    syscalls: [
      { names: ['read', 'openat2', 'no_such_call'], action: 'SCMP_ACT_ALLOW' },
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
      { names: ['ptrace'], action: 'SCMP_ACT_KILL_PROCESS' },
    ],
  });
  it.each([
    ['read', X86_64, 0, ALLOW],
    ['read of a 32-bit program', I386, 3, ALLOW],
    ['write', X86_64, 1, refused()],
    ['openat2', X86_64, 437, ALLOW],
    ['openat2 of a 32-bit program', I386, 437, ALLOW],
    ['clone3, with an error of its own', X86_64, 435, refused(38)],
    ['ptrace', X86_64, 101, 0x8000_0000],
    ['a system call that its author did not know', X86_64, 438, refused(38)],
    ['one that was there before', X86_64, 434, refused()],
    ['read of x32', X86_64, 0x4000_0000, refused()],
    ['a number that nothing has', X86_64, 0xffff_ffff, refused()],
    ['an architecture that is not named', ARM64, 63, refused()],
  ])('decides about %s', (_, arch, number, answer) => {
    expect(runFilter(program, { arch, number })).toBe(answer);
  });

  it('kills what comes from an architecture that it does not name', () => {
    const native = compiled({ defaultAction: 'SCMP_ACT_ALLOW' }, SCMP_ARCH.aarch64);
    expect(runFilter(native, { arch: ARM64, number: 63 })).toBe(ALLOW);
    expect(runFilter(native, { arch: X86_64, number: 0 })).toBe(0);
  });

  const operators: readonly [Operator, (arg: bigint, value: bigint, two: bigint) => boolean][] = [
    ['EQ', (arg, value) => arg === value],
    ['NE', (arg, value) => arg !== value],
    ['LT', (arg, value) => arg < value],
    ['LE', (arg, value) => arg <= value],
    ['GE', (arg, value) => arg >= value],
    ['GT', (arg, value) => arg > value],
    ['MASKED_EQ', (arg, value, two) => (arg & value) === (two & value)],
  ];
  /** Around the border between the two words of an argument. */
  const values = [0, 1, 5, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0005, 0x7_ffff_ffff];
  it.each(operators)('compares all 64 bits of an argument by %s', (operator, holds) => {
    for (const value of values)
      for (const valueTwo of operator === 'MASKED_EQ' ? values : [0]) {
        const program = compiled({
          defaultAction: 'SCMP_ACT_ERRNO',
          syscalls: [
            {
              names: ['socket'],
              action: 'SCMP_ACT_ALLOW',
              args: [
                { index: 3, op: `SCMP_CMP_${operator}`, value, valueTwo },
                { index: 5, op: 'SCMP_CMP_EQ', value: 9 },
              ],
            },
          ],
        });
        for (const arg of [...values.map(BigInt), 2n ** 64n - 1n])
          for (const other of [9n, 8n]) {
            const answer = runFilter(program, {
              arch: X86_64,
              number: 41,
              args: [0n, 0n, 0n, arg, 0n, other],
            });
            const isAllowed = other === 9n && holds(arg, BigInt(value), BigInt(valueTwo));
            expect([arg, value, answer]).toEqual([arg, value, isAllowed ? ALLOW : refused()]);
          }
      }
  });

  it('takes rules of one system call one after the other, and two conditions of one argument as rules', () => {
    const rule = (...values: number[]) => ({
      names: ['personality'],
      action: 'SCMP_ACT_ALLOW',
      args: values.map((value) => ({ index: 0, op: 'SCMP_CMP_EQ', value })),
    });
    const program = compiled({ defaultAction: 'SCMP_ACT_ERRNO', syscalls: [rule(0), rule(8, 0x20008)] });
    const allowed = [0n, 8n, 0x20008n, 7n].filter(
      (arg) => runFilter(program, { arch: X86_64, number: 135, args: [arg] }) === ALLOW,
    );
    expect(allowed).toEqual([0n, 8n, 0x20008n]);
  });

  it.each([
    [{ defaultAction: 'SCMP_ACT_NOTIFY' }, /has the action SCMP_ACT_NOTIFY, which a restore cannot give/],
    [{ defaultAction: 'SCMP_ACT_ALLOW', flags: ['SECCOMP_FILTER_FLAG_NEW_LISTENER'] }, /the flag/],
    [
      {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [
          {
            names: ['read'],
            action: 'SCMP_ACT_ERRNO',
            args: [{ index: 0, op: 'SCMP_CMP_EQ', value: 2 ** 60 }],
          },
        ],
      },
      /the number/,
    ],
  ])('%j starts cold', (seccomp, reason) => {
    const [obstacle] = profileObstacles({ linux: { seccomp } });
    expect(obstacle).toMatch(reason);
  });
});

describe("the pod's filter", () => {
  const SHARED = 1;
  const own = { program: Buffer.alloc(8, 9), flags: 2 };
  const image = (...filters: criu.ISeccompFilter[]) =>
    writeMessages(Magic.seccomp, [criu.SeccompFilters.encode({ seccompFilters: filters }).finish()]);
  const filter = (byte: number, prev?: number) => ({
    filter: Buffer.alloc(8, byte),
    ...(prev === undefined ? {} : { prev }),
  });
  const ours = (prev?: number) => ({ ...filter(9, prev), flags: own.flags });
  const shared = (...last: number[]): ProcessFilters => ({ last, isShared: true, without: [] });
  const apart = (...last: number[]): ProcessFilters => ({ last, isShared: false, without: [] });
  /** What a task gets whose last filter is this one, the last one first: first byte and flags of each. */
  const chain = (bytes: Uint8Array, top: number) => {
    const [message = Buffer.alloc(0)] = readMessages(bytes, Magic.seccomp, 'seccomp.img');
    const { seccompFilters: all } = criu.SeccompFilters.decode(message);
    const found: (number | undefined)[][] = [];
    for (let at = all?.[top]; at; at = Object.hasOwn(at, 'prev') ? all?.[at.prev ?? 0] : undefined)
      found.push([at.filter?.[0], at.flags ?? 0]);
    return found;
  };

  it('is below all that are there, with the flag that those above it have', () => {
    const { bytes, number } = putBelow(image(filter(1), filter(2, 0), filter(3), filter(4)), own, [
      shared(1),
      apart(2, 3),
    ]);
    for (const isShared of [true, false])
      expect(chain(bytes, number({ isShared }))).toEqual([[9, isShared ? 2 | SHARED : 2]]);
    expect([1, 2, 3].map((top) => chain(bytes, top))).toEqual([
      [
        [2, SHARED],
        [1, SHARED],
        [9, 2 | SHARED],
      ],
      [
        [3, 0],
        [9, 2],
      ],
      [
        [4, 0],
        [9, 2],
      ],
    ]);
  });

  it('is there once, wherever it was in the dump', () => {
    const given = image(ours(), filter(1, 0), ours(1), filter(2, 2), filter(3));
    const { bytes } = putBelow(given, own, [apart(1, 2, 3, 4)]);
    const chains = [1, 2, 3, 4].map((top) => chain(bytes, top).map(([byte]) => byte));
    expect(chains).toEqual([
      [1, 9],
      [1, 9],
      [2, 1, 9],
      [3, 9],
    ]);
  });

  it.each([
    ['below itself', [filter(1, 1), filter(2, 0)], [shared(0)]],
    ['above one that is not there', [filter(1, 7)], [shared(0)]],
    ['above one that is not there', [filter(1)], [shared(3)]],
    ['one of all threads, and of a single one', [filter(1), filter(2, 0)], [shared(1), apart(0)]],
  ])('is not put below filters of which one is %s', (what, filters, processes) => {
    expect(() => putBelow(image(...filters), own, processes)).toThrow(what);
  });

  const task = (pid: number, seccompMode: number, seccompFilter?: number): TaskRights => ({
    ...rightsFromStatus(pid, ''),
    seccompMode,
    seccompFilter,
  });
  it.each([
    ['threads that share those of the main one', [task(1, 2, 4), task(2, 0), task(3, 0)], shared(4)],
    ['threads with filters of their own', [task(1, 2, 4), task(2, 2, 5)], apart(4, 5)],
    [
      'a thread that has none beside others',
      [task(1, 2, 4), task(2, 2, 5), task(3, 0)],
      { ...apart(4, 5), without: [3] },
    ],
    [
      'the threads of a process without any',
      [task(1, 0), task(2, 0), task(3, 0)],
      { ...shared(), without: [1] },
    ],
    [
      'a main thread that has none',
      [task(1, 0), task(2, 2, 5), task(3, 0)],
      { ...apart(5), without: [1, 3] },
    ],
  ])('is for %s', (_, tasks, filters) => {
    expect(filtersOf(tasks, [[1, 2, 3]])).toEqual([filters]);
  });
});
