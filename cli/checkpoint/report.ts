import type { CheckpointFacts } from '../../checkpoint/facts.ts';
import { formatBytes, formatMs, formatPairs, formatRatio, formatTable } from '../ui/format.ts';
import type { StepTime } from '../ui/progress.ts';

/** What a finished `thaw checkpoint` has to say. */
export interface Saved {
  reference: string;
  digest: string;
  container: string;
  /** What the image says of the checkpoint. */
  facts: CheckpointFacts;
  stopped: boolean;
  /** It was restored on this node before. */
  verified: boolean;
  /** Index and data layers. */
  checkpointLayers: number;
  /** Bytes of the dump; of it not zero; as stored. */
  fileBytes: number;
  decodedBytes: number;
  storedBytes: number;
  /** Of the rootfs diff layer; undefined if nothing had changed. */
  diffBytes: number | undefined;
  /** Bytes that went to the registry, and bytes of all layers together. */
  pushedBytes: number;
  imageBytes: number;
  /** How long the container stood still; undefined if it was stopped or paused before. */
  pausedMs: number | undefined;
  steps: readonly StepTime[];
}

export function savedJson(saved: Saved): object {
  const { reference, facts: _, ...rest } = saved;
  return {
    image: reference,
    ...rest,
    steps: saved.steps.map(({ label, ms }) => ({ label, ms: Math.round(ms) })),
    pausedMs: saved.pausedMs === undefined ? undefined : Math.round(saved.pausedMs),
  };
}

export function savedLines(saved: Saved): string[] {
  const steps = formatTable(
    ['STEP', 'TIME>'],
    saved.steps.map(({ label, ms }) => [label, formatMs(ms)]),
  );
  const zero = saved.fileBytes - saved.decodedBytes;
  return [
    ...formatPairs([
      ['Image', saved.reference],
      ['Digest', saved.digest],
      ['Container', `${saved.container}, ${stateOf(saved)}`],
      [
        'Dump',
        `${formatBytes(saved.fileBytes)}, of it ${formatBytes(zero)} zero; stored ${formatBytes(saved.storedBytes)} (${formatRatio(saved.decodedBytes, saved.storedBytes)} smaller) in ${saved.checkpointLayers} layers`,
      ],
      ['Verified', saved.verified ? 'it was restored on this node, and works' : 'no'],
      ['Rootfs diff', saved.diffBytes === undefined ? 'nothing changed' : formatBytes(saved.diffBytes)],
      ['Pushed', `${formatBytes(saved.pushedBytes)} of an image of ${formatBytes(saved.imageBytes)}`],
    ]),
    '',
    ...steps,
    '',
    `Start it with the image ${saved.reference} and runtimeClassName: thaw`,
  ];
}

function stateOf({ stopped, pausedMs }: Saved): string {
  if (stopped) return 'stopped';
  return pausedMs === undefined ? 'still paused' : `stood still for ${formatMs(pausedMs)}`;
}
