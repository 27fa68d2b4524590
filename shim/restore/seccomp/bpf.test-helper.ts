/** Runs a seccomp filter as the kernel does. Source: kernel/seccomp.c and net/core/filter.c of Linux. */

export interface Call {
  /** AUDIT_ARCH_* of linux/audit.h. */
  arch: number;
  number: number;
  args?: readonly bigint[];
}

/** SECCOMP_RET_*, with its data. Understands what our filters and libseccomp's are made of, and throws for anything else. */
export function runFilter(program: Buffer, { arch, number, args = [] }: Call): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number >>> 0, 0);
  data.writeUInt32LE(arch >>> 0, 4);
  for (const [at, arg] of args.entries()) data.writeBigUInt64LE(arg, 16 + at * 8);
  let a = 0;
  for (let at = 0; at < program.length / 8; at += 1) {
    const [code, jt, jf] = [program.readUInt16LE(at * 8), program[at * 8 + 2] ?? 0, program[at * 8 + 3] ?? 0];
    const k = program.readUInt32LE(at * 8 + 4);
    const jump = (holds: boolean) => {
      at += holds ? jt : jf;
    };
    switch (code) {
      case 0x20:
        a = data.readUInt32LE(k);
        break;
      case 0x54:
        a = (a & k) >>> 0;
        break;
      case 0x05:
        at += k;
        break;
      case 0x15:
        jump(a === k);
        break;
      case 0x25:
        jump(a > k);
        break;
      case 0x35:
        jump(a >= k);
        break;
      case 0x45:
        jump((a & k) !== 0);
        break;
      case 0x06:
        return k;
      default:
        throw new Error(`the instruction ${code.toString(16)}`);
    }
  }
  throw new Error('the filter ends without an answer');
}
