import { availableParallelism, loadavg, release } from 'node:os';
import { run } from '../../test/lib/index.ts';

/** One line: what the numbers depend on. */
export async function versions(): Promise<string> {
  const first = async (pattern: RegExp, program: string, option: string) =>
    pattern.exec((await run(program, [option])).stdout)?.[1] ?? 'unknown';
  return [
    `kernel ${release()}`,
    `containerd ${await first(/ v?(\d[^\s+~]*)/, 'containerd', '--version')}`,
    `runc ${await first(/version (\d[^\s+]*)/, 'runc', '--version')}`,
    `criu ${await first(/Version: (\d[^\s]*)/, 'criu', '--version')}`,
    `node ${process.versions.node}`,
    `${availableParallelism()} CPUs`,
    `load ${loadavg()[0]?.toFixed(1)} at the end`,
  ].join(', ');
}
