/** What `thaw build` says at its end, and with --dry-run. Pure. */

import type { Saved } from '../checkpoint/report.ts';
import { savedJson } from '../checkpoint/report.ts';
import { processTree } from '../inspect/summary.ts';
import { formatBytes, formatMs, formatPairs, formatRatio, formatTable, printable } from '../ui/format.ts';
import type { Launch } from './oci-spec.ts';
import { hindrances } from './portability.ts';
import type { BuildSpec, Condition } from './spec.ts';
import { countOf } from './warm-up.ts';

export interface Built {
  saved: Saved;
  spec: BuildSpec;
  /** Name of the image that it was built from. */
  base: string;
  pushedBytes: number;
}

export function builtJson(built: Built): object {
  const { saved, base, pushedBytes } = built;
  const { stopped: _, container: __, ...rest } = savedJson(saved) as Record<string, unknown>;
  const { processes, memoryBytes, mounts, host, launch, created } = saved.facts;
  return {
    ...rest,
    base,
    created,
    pushedBytes,
    memoryBytes,
    processes,
    mounts,
    host,
    // A value may be a secret, and goes nowhere but into the image.
    launch: { ...launch, env: launch.env.map(nameOf) },
    portability: hindrances(built.saved.facts),
  };
}

export function builtLines(built: Built): string[] {
  const { saved, base, pushedBytes } = built;
  const { facts } = saved;
  const diff = saved.diffBytes === undefined ? 'nothing changed' : formatBytes(saved.diffBytes);
  return [
    ...formatPairs([
      ['Image', saved.reference],
      ['Digest', saved.digest],
      ['Built from', printable(base)],
      ['Verified', saved.verified ? 'it was restored on this node, and works' : 'no'],
      ['Memory', `${formatBytes(facts.memoryBytes)} in ${facts.processes.length} processes`],
      [
        'Checkpoint',
        `${formatBytes(saved.storedBytes)} in ${saved.checkpointLayers} layers (${formatRatio(saved.decodedBytes, saved.storedBytes)} smaller; ${formatBytes(saved.fileBytes - saved.decodedBytes)} of zeros left out)`,
      ],
      ['Rootfs diff', diff],
      ['Pushed', `${formatBytes(pushedBytes)} of an image of ${formatBytes(saved.imageBytes)}`],
    ]),
    '',
    'Processes',
    ...processTree(facts.processes).map((line) => `  ${line}`),
    '',
    'To be restored (without it a container starts cold)',
    ...hindrances(built.saved.facts).map(({ text }) => `  ${text}`),
    '',
    ...formatTable(
      ['STEP', 'TIME>'],
      saved.steps.map(({ label, ms }) => [label, formatMs(ms)]),
    ),
  ];
}

/** What a build would do, as far as it can be known without doing it. */
export interface Plan {
  target: string;
  base: string;
  baseBytes: number;
  /** Whether containerd has the base image already. */
  local: boolean;
  launch: Launch;
  spec: BuildSpec;
}

export function planJson({ target, base, baseBytes, local, launch, spec }: Plan): object {
  return {
    dryRun: true,
    image: target,
    base,
    baseBytes,
    local,
    launch: { args: launch.args, cwd: launch.cwd, env: launch.env.map(nameOf) },
    mounts: spec.mounts.map(({ source, destination, read_only: readOnly }) => ({
      source,
      destination,
      readOnly,
    })),
    ready: describeCondition(spec.ready),
    warmUps: countOf(spec.warm_up),
    quiesce: describeQuiesce(spec),
  };
}

export function planLines({ target, base, baseBytes, local, launch, spec }: Plan): string[] {
  return [
    ...formatPairs([
      ['Image', target],
      ['Built from', `${printable(base)} (${formatBytes(baseBytes)}${local ? ', here already' : ''})`],
      ['Command', printable(launch.args.join(' '))],
      ['Directory', printable(launch.cwd)],
      ['Environment', printable(launch.env.map(nameOf).join(' '))],
      ...spec.mounts.map(
        ({ source, destination, read_only }) =>
          ['Mount', `${source} at ${destination}, ${read_only ? 'read-only' : 'writable'}`] as const,
      ),
      ['Ready', `${describeCondition(spec.ready)}, within ${spec.ready.timeout_s} s`],
      ['Warm-up', `${countOf(spec.warm_up)} requests`],
      ['Rest', describeQuiesce(spec) ?? 'as it is'],
    ]),
    '',
    'Nothing was started and nothing pushed.',
  ];
}

export function describeCondition({ http, tcp, exec, file, log_line }: Condition): string {
  if (http) return `when http://localhost:${http.port}${http.path} answers with 200 to 399`;
  if (tcp) return `when port ${tcp.port} takes connections`;
  if (exec) return `when ${exec.join(' ')} ends with 0`;
  if (file !== undefined) return `when ${file} is there`;
  return `when a line of its output matches /${log_line ?? ''}/`;
}

function describeQuiesce({ quiesce }: BuildSpec): string | undefined {
  if (!quiesce) return undefined;
  const how = quiesce.signal ?? `exec ${quiesce.exec?.join(' ') ?? ''}`;
  return quiesce.until ? `${how}, ${describeCondition(quiesce.until)}` : how;
}

function nameOf(variable: string): string {
  return variable.split('=', 1)[0] ?? '';
}
