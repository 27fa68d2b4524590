/**
 * A seccomp profile as a program for the kernel (classic BPF over struct seccomp_data). It decides as the one that runc has
 * libseccomp make, and has the same error numbers: which of two filters' is taken depends on their order. Pure.
 */
import { Code } from '../../../proto/status.ts';
import { RestoreError } from '../error.ts';
import type { Condition, Profile, Rule } from './profile.ts';
import { type Architecture, architecture } from './syscalls.ts';

/** struct sock_filter of linux/filter.h. */
interface Instruction {
  code: number;
  jt: number;
  jf: number;
  k: number;
}

/** BPF_* of linux/bpf_common.h, put together. */
const Op = {
  load: 0x20,
  jump: 0x05,
  equal: 0x15,
  greater: 0x25,
  atLeast: 0x35,
  and: 0x54,
  answer: 0x06,
} as const;
/** Offsets in struct seccomp_data. */
const NUMBER = 0;
const ARCH = 4;
const ARGUMENTS = 16;
const WORD = 2n ** 32n;
const SIZE = 8;
/** SECCOMP_RET_KILL_THREAD: what libseccomp answers for an architecture that is not named. */
const KILL = 0;
/** SECCOMP_RET_ERRNO with the number. */
const ENOSYS = 0x0005_0000 + 38;
/** SECCOMP_RET_TRACE; SECCOMP_RET_LOG and SECCOMP_RET_ALLOW are above. */
const TRACE = 0x7ff0_0000;
/** BPF_MAXINSNS of linux/bpf_common.h. */
const LONGEST = 4096;

/** `native`: of this node, by its name in profiles. */
export function compileProfile(profile: Profile, native: string): Buffer {
  const named = [...new Set([native, ...profile.architectures])];
  const sections = named.flatMap((name) => {
    const known = architecture(name);
    return known ? [section(profile, known)] : [];
  });
  // Whoever may run what has no table here gets what the profile has for system calls that it does not name.
  const other = sections.length < named.length ? profile.defaultAction : KILL;
  const program = [load(ARCH), ...sections.flat(), answer(other)];
  if (program.length > LONGEST)
    throw new RestoreError(
      Code.failedPrecondition,
      `The pod's seccomp profile needs ${program.length} instructions, the kernel takes ${LONGEST}`,
    );
  return encode(program);
}

/** A is the architecture, before and after. */
function section(profile: Profile, { audit, end, syscalls }: Architecture): Instruction[] {
  const rules = new Map<number, Rule[]>();
  let last = -1;
  for (const rule of profile.rules) {
    const number = syscalls.get(rule.syscall);
    if (number === undefined) continue;
    last = Math.max(last, number);
    // runc passes over rules that do what would be done anyway.
    if (rule.action !== profile.defaultAction) rules.set(number, [...(rules.get(number) ?? []), rule]);
  }
  const body = [
    load(NUMBER),
    ...(end === undefined ? [] : [test(Op.atLeast, end, 0, 1), answer(profile.defaultAction)]),
    ...newer(last, profile.defaultAction),
    ...[...rules].flatMap(([number, ofCall]) => unless(number, decide(ofCall, profile.defaultAction))),
    answer(profile.defaultAction),
  ];
  return unless(audit, body);
}

/**
 * As in runc: system calls that are newer than all that a profile names do not exist, so that programs take the older ones,
 * unless it allows what it does not name.
 */
function newer(last: number, defaultAction: number): Instruction[] {
  if (last < 0 || (defaultAction | 0) >= TRACE) return [];
  return [test(Op.greater, last, 0, 1), answer(ENOSYS)];
}

/** Runs the body where A is the value; it ends with an answer. */
function unless(value: number, body: readonly Instruction[]): Instruction[] {
  if (body.length === 1) return [test(Op.equal, value, 0, 1), ...body];
  return [test(Op.equal, value, 1, 0), { code: Op.jump, jt: 0, jf: 0, k: body.length }, ...body];
}

/** One that has no condition wins, as in libseccomp; among others that hold, the strictest. */
function decide(rules: readonly Rule[], defaultAction: number): Instruction[] {
  const always = rules.filter(({ conditions }) => conditions.length === 0).toSorted(byStrictness)[0];
  if (always) return [answer(always.action)];
  const tried = rules.toSorted(byStrictness).flatMap(({ conditions, action }) => {
    let rest = [answer(action)];
    for (const condition of conditions.toReversed()) rest = [...check(condition, rest.length), ...rest];
    return rest;
  });
  return [...tried, answer(defaultAction)];
}

/** As the kernel ranks answers: as signed numbers, the lowest first. */
function byStrictness(a: Rule, b: Rule): number {
  return (a.action | 0) - (b.action | 0);
}

/** Goes on after itself where the condition holds, else passes over `rest` instructions. */
function check({ index, operator, value, masked }: Condition, rest: number): Instruction[] {
  // Little-endian, as all architectures with a table here.
  const low = ARGUMENTS + index * 8;
  const [high, lowWord] = [Number(value / WORD), Number(value % WORD)];
  switch (operator) {
    case 'EQ':
      return [load(low + 4), test(Op.equal, high, 0, rest + 2), load(low), test(Op.equal, lowWord, 0, rest)];
    case 'NE':
      return [load(low + 4), test(Op.equal, high, 0, 2), load(low), test(Op.equal, lowWord, rest, 0)];
    case 'GT':
    case 'GE':
      return [
        load(low + 4),
        test(Op.greater, high, 3, 0),
        test(Op.equal, high, 0, rest + 2),
        load(low),
        test(operator === 'GT' ? Op.greater : Op.atLeast, lowWord, 0, rest),
      ];
    case 'LT':
    case 'LE':
      return [
        load(low + 4),
        test(Op.greater, high, rest + 3, 0),
        test(Op.equal, high, 0, 2),
        load(low),
        test(operator === 'LT' ? Op.atLeast : Op.greater, lowWord, rest, 0),
      ];
    case 'MASKED_EQ': {
      const wanted = masked & value;
      return [
        load(low + 4),
        and(high),
        test(Op.equal, Number(wanted / WORD), 0, rest + 3),
        load(low),
        and(lowWord),
        test(Op.equal, Number(wanted % WORD), 0, rest),
      ];
    }
  }
}

function load(k: number): Instruction {
  return { code: Op.load, jt: 0, jf: 0, k };
}

function and(k: number): Instruction {
  return { code: Op.and, jt: 0, jf: 0, k };
}

function answer(k: number): Instruction {
  return { code: Op.answer, jt: 0, jf: 0, k };
}

/** `jt`, `jf`: how many instructions are passed over where it is so, and where it is not. */
function test(code: number, k: number, jt: number, jf: number): Instruction {
  return { code, jt, jf, k };
}

function encode(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * SIZE);
  for (const [at, { code, jt, jf, k }] of program.entries()) {
    bytes.writeUInt16LE(code, at * SIZE);
    bytes.writeUInt8(jt, at * SIZE + 2);
    bytes.writeUInt8(jf, at * SIZE + 3);
    bytes.writeUInt32LE(k, at * SIZE + 4);
  }
  return bytes;
}
