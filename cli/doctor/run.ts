import { Code, describeError } from '../../proto/status.ts';
import type { DoctorOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { printable } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';
import { checkContainerd } from './containerd.ts';
import { checkDaemon, readDaemonConfig } from './daemon.ts';
import { checkDisk } from './disk.ts';
import { type Finding, failed, type Status } from './finding.ts';
import { checkGpu } from './gpu.ts';
import { checkCgroup, checkKernel, checkLazyLayers, checkUserfaultfd } from './kernel.ts';
import type { Machine } from './machine.ts';
import { nodeMachine } from './node-machine.ts';
import { checkCriu, checkRunc } from './programs.ts';

/** `thaw doctor`: rejects, so that it ends with status 1, if a check has failed. */
export async function runDoctor(options: DoctorOptions, context: Context): Promise<void> {
  const machine = nodeMachine(options, context);
  const findings = await diagnose(machine, options).finally(() => machine.close());
  const broken = findings.filter(({ status }) => status === 'failed').length;
  if (options.json) context.print(toJson({ ok: broken === 0, findings }));
  else for (const line of findings.flatMap(reportLines)) context.print(line);
  if (broken > 0)
    throw new CliError(
      Code.failedPrecondition,
      broken === 1 ? 'One check failed' : `${broken} checks failed`,
    );
}

/** Every check, in the order in which one may be the cause of the next. */
export async function diagnose(
  machine: Machine,
  options: Pick<DoctorOptions, 'config' | 'containerdConfig'>,
): Promise<Finding[]> {
  const { config, finding } = await readDaemonConfig(machine, options.config);
  const checks: [string, () => Promise<Finding[]>][] = [
    ['kernel', () => checkKernel(machine)],
    ['userfaultfd', () => checkUserfaultfd(machine)],
    ['lazy layers', () => checkLazyLayers(machine)],
    ['cgroup', () => checkCgroup(machine)],
    ['CRIU', () => checkCriu(machine)],
    ['runc', () => checkRunc(machine)],
    ['disk', () => checkDisk(machine, config)],
    ['configuration of thaw-snapshotter', async () => [finding]],
    ['thaw-snapshotter', () => checkDaemon(machine, config)],
    ['containerd', () => checkContainerd(machine, config, options.containerdConfig)],
    ['GPU', () => checkGpu(machine, options.containerdConfig)],
  ];
  const findings: Finding[] = [];
  for (const [name, check] of checks) {
    try {
      findings.push(...(await check()));
    } catch (error) {
      if (describeError(error).code === Code.canceled) throw error;
      // What cannot be looked at is no reason not to look at the rest.
      findings.push(
        failed(name, `cannot be looked at: ${describeError(error).message}`, 'run thaw doctor as root'),
      );
    }
  }
  return findings;
}

const WORDS = { ok: 'ok', warning: 'warn', failed: 'FAIL' } as const satisfies Record<Status, string>;

export function reportLines({ check, status, found, mend }: Finding): string[] {
  const line = `${WORDS[status].padEnd(4)}  ${check}: ${printable(found)}`;
  return mend === undefined ? [line] : [line, `      → ${printable(mend)}`];
}
