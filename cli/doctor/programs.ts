import { type Finding, failed, ok, warning } from './finding.ts';
import type { Machine } from './machine.ts';
import { isAtLeast } from './version.ts';

/** The CRIU that thaw brings along is `criu` in the PATH of `run`, as it is for runc. */
export async function checkCriu({ kernel, run }: Machine): Promise<Finding[]> {
  const check = 'CRIU';
  const asked = await run('criu', ['--version']);
  const version = /^Version:\s*(\S+)/m.exec(asked?.stdout ?? '')?.[1];
  if (version === undefined)
    return [failed(check, asked ? said(asked) : 'there is none', 'install thaw again: it brings its own')];
  const tooOld = needed(kernel).find(({ criu }) => !isAtLeast(version, ...criu));
  if (tooOld) {
    const least = tooOld.criu.join('.');
    return [failed(check, `${version} on Linux ${kernel}: ${tooOld.why}`, `install CRIU ${least} or later`)];
  }
  const tried = await run('criu', ['check']);
  return [
    tried?.code === 0
      ? ok(check, `${version}; "criu check" finds nothing missing`)
      : failed(
          check,
          `${version}; "criu check" says: ${said(tried)}`,
          'run "criu check" as root and follow it',
        ),
  ];
}

/** Source: CRIU's release notes. */
function needed(kernel: string): { criu: readonly number[]; why: string }[] {
  const newest = isAtLeast(kernel, 6, 16)
    ? [{ criu: [4, 2], why: 'it cannot save sockets on kernels from 6.16 on' }]
    : [];
  const newer = isAtLeast(kernel, 6, 13)
    ? [{ criu: [4, 1], why: 'it cannot save the vdso of kernels from 6.13 on' }]
    : [];
  return [...newest, ...newer, { criu: [4, 0], why: 'it is older than what thaw is tested with' }];
}

export async function checkRunc({ run }: Machine): Promise<Finding[]> {
  const check = 'runc';
  const asked = await run('runc', ['--version']);
  const version = /^runc version (\S+)/m.exec(asked?.stdout ?? '')?.[1];
  if (version === undefined)
    return [failed(check, asked ? said(asked) : 'it is not in PATH', 'install runc 1.1 or later')];
  return [
    isAtLeast(version, 1, 1)
      ? ok(check, version)
      : warning(check, `${version} is older than what thaw is tested with`, 'install runc 1.1 or later'),
  ];
}

/** The last line that it wrote: where programs say what went wrong. */
function said(ran: { stdout: string; stderr: string } | undefined): string {
  const lines = `${ran?.stdout ?? ''}\n${ran?.stderr ?? ''}`.split('\n').filter((line) => line.trim() !== '');
  return lines.at(-1)?.trim() ?? 'nothing';
}
