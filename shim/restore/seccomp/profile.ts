/** The seccomp profile of a live OCI spec, as runc understands it. Pure. */
import { Code } from '../../../proto/status.ts';
import { RestoreError } from '../error.ts';

/** Names that profiles use for what a node may run. */
export const SCMP_ARCH = {
  x86_64: 'SCMP_ARCH_X86_64',
  x86: 'SCMP_ARCH_X86',
  aarch64: 'SCMP_ARCH_AARCH64',
} as const;

export type Operator = 'NE' | 'LT' | 'LE' | 'EQ' | 'GE' | 'GT' | 'MASKED_EQ';

/** Of an argument of a system call. */
export interface Condition {
  /** 0 to 5. */
  index: number;
  operator: Operator;
  /** What the argument is compared with; for MASKED_EQ the mask. */
  value: bigint;
  /** What is left under the mask. */
  masked: bigint;
}

export interface Rule {
  syscall: string;
  /** SECCOMP_RET_* of linux/seccomp.h, with its data. */
  action: number;
  /** All of them must hold. */
  conditions: readonly Condition[];
}

export interface Profile {
  defaultAction: number;
  architectures: readonly string[];
  /** SECCOMP_FILTER_FLAG_* of linux/seccomp.h. */
  flags: number;
  rules: readonly Rule[];
}

const EPERM = 1;
const ARGUMENTS = 6;
const LARGEST_ERRNO = 0xffff;
const OPERATORS = new Set<string>(['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ']);
const FLAGS = new Map([
  // Set for all threads by whoever installs it.
  ['SECCOMP_FILTER_FLAG_TSYNC', 0],
  ['SECCOMP_FILTER_FLAG_LOG', 2],
  ['SECCOMP_FILTER_FLAG_SPEC_ALLOW', 4],
]);

/** `seccomp`: LinuxSeccomp of the OCI runtime specification. Throws for what is not known here. */
export function readProfile(seccomp: unknown): Profile {
  const { defaultAction, defaultErrnoRet, architectures = [], flags = [], syscalls = [] } = fields(seccomp);
  return {
    defaultAction: actionOf(defaultAction, defaultErrnoRet),
    architectures: strings(architectures, 'architectures'),
    flags: strings(flags, 'flags').reduce((sum, flag) => sum | flagOf(flag), 0),
    rules: list(syscalls, 'syscalls').flatMap(rulesOf),
  };
}

function rulesOf(call: unknown): Rule[] {
  const { names, action, errnoRet, args = [] } = fields(call);
  const ofCall = actionOf(action, errnoRet);
  const conditions = list(args ?? [], 'args').map(conditionOf);
  // As in runc: where one argument is named twice, each condition is a rule of its own.
  const isOnce = new Set(conditions.map(({ index }) => index)).size === conditions.length;
  const all = isOnce ? [conditions] : conditions.map((condition) => [condition]);
  return strings(names, 'names').flatMap((syscall) =>
    all.map((conditions) => ({ syscall, action: ofCall, conditions })),
  );
}

function conditionOf(arg: unknown): Condition {
  const { index, op, value, valueTwo = 0 } = fields(arg);
  const operator = String(op).replace(/^SCMP_CMP_/, '');
  if (!isOperator(operator)) throw unknown(`the operator ${op}`);
  if (typeof index !== 'number' || !(index >= 0 && index < ARGUMENTS)) throw unknown(`the argument ${index}`);
  return { index, operator, value: number(value), masked: number(valueTwo) };
}

function isOperator(name: string): name is Operator {
  return OPERATORS.has(name);
}

/** Source: linux/seccomp.h; EPERM where no number is given, as in runc. */
function actionOf(action: unknown, data: unknown): number {
  const errno = data === undefined || data === null ? EPERM : Number(number(data));
  if (errno > LARGEST_ERRNO) throw unknown(`the error number ${errno}`);
  switch (action) {
    case 'SCMP_ACT_KILL':
    case 'SCMP_ACT_KILL_THREAD':
      return 0;
    case 'SCMP_ACT_KILL_PROCESS':
      return 0x8000_0000;
    case 'SCMP_ACT_TRAP':
      return 0x0003_0000;
    case 'SCMP_ACT_ERRNO':
      return 0x0005_0000 + errno;
    case 'SCMP_ACT_TRACE':
      return 0x7ff0_0000 + errno;
    case 'SCMP_ACT_LOG':
      return 0x7ffc_0000;
    case 'SCMP_ACT_ALLOW':
      return 0x7fff_0000;
    default:
      // SCMP_ACT_NOTIFY above all: whoever is to be notified gets a descriptor from runc, and none from a restore.
      throw unknown(`the action ${action}`);
  }
}

function flagOf(name: string): number {
  const flag = FLAGS.get(name);
  if (flag === undefined) throw unknown(`the flag ${name}`);
  return flag;
}

/** JSON.parse has lost the last digits of larger ones. */
function number(value: unknown): bigint {
  if (typeof value !== 'number' || value < 0 || !Number.isSafeInteger(value))
    throw unknown(`the number ${value}`);
  return BigInt(value);
}

function fields(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw unknown(JSON.stringify(value));
  return Object.fromEntries(Object.entries(value));
}

function list(value: unknown, name: string): readonly unknown[] {
  if (!Array.isArray(value)) throw unknown(name);
  return value;
}

function strings(value: unknown, name: string): string[] {
  return list(value, name).map((one) => {
    if (typeof one !== 'string') throw unknown(name);
    return one;
  });
}

function unknown(what: string): RestoreError {
  return new RestoreError(
    Code.failedPrecondition,
    `The pod's seccomp profile has ${what}, which a restore cannot give`,
  );
}
