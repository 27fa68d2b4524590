/** Cold starts of a restored worker, from PullImage on. */
import { join } from 'node:path';
import type { Question } from '../restore/bed.ts';
import { nowNs, type Outcome, outcome, Probe } from '../restore/probe.ts';
import { check, type Restored } from '../restore/restored.ts';
import { Bundle } from '../restore/runc.ts';
import { type ColdBed, handlers, type Remote, sentBytes } from './bed.ts';
import { CHECKPOINT_DIR } from './images.ts';
import { Meter } from './meter.ts';
import { ColdPod } from './pod.ts';
import type { Gbit } from './throttle.ts';

/** What is asked of the worker as soon as it is there. */
export type Touch = Question | 'nothing';

/** Milliseconds from PullImage on, and bytes. */
export interface ColdStart {
  pulled: number;
  started: number;
  heartbeat: number;
  /** The answer, or the pass; NaN for `nothing`. */
  touched: number;
  /** All memory is there. */
  resident: number;
  /** How long a pass over all memory took that was asked for after the answer. */
  pass: number;
  /** When the last byte had come over the link. */
  downloaded: number;
  /** Share of all processors' time in which they were busy until then. */
  busy: number;
  fetched: number;
}

export type Starter = 'thaw' | 'pull-unpack-restore' | 'thaw-whole';

/** One start of `count` pods at once; each one's times. */
export async function coldStart(
  cold: ColdBed,
  remote: Remote,
  options: { starter: Starter; gbit: Gbit; touch: Touch; count?: number },
): Promise<ColdStart[]> {
  const { starter, gbit, touch, count = 1 } = options;
  await cold.empty();
  const handler = handlerOf(starter);
  const first = await ColdPod.start(cold.bed.node, handler);
  const pods = [first];
  try {
    while (pods.length < count) pods.push(await ColdPod.start(cold.bed.node, handler));
    const { result, requests } = await cold.behindLink(gbit, async () => {
      const meter = new Meter();
      try {
        const began = nowNs();
        const image = starter === 'pull-unpack-restore' ? remote.peerImage : remote.image;
        const imageRef = await first.pull(image, handler);
        const pulled = nowNs();
        const container = { image, imageRef, command: remote.command };
        const answers = pods.map(() => Promise.withResolvers<void>());
        const everyone = Promise.all(answers.map(({ promise }) => promise));
        const runs = await Promise.all(
          pods.map(async (pod, i) => {
            const answered = () => answers[i]?.resolve();
            try {
              return await startOne({ cold, remote, pod, container, starter, touch, answered, everyone });
            } finally {
              // Also where it failed: the others must not wait for it.
              answered();
            }
          }),
        );
        return { began, pulled, runs, meter };
      } finally {
        meter.stop();
      }
    });
    const fetched = sentBytes(requests);
    const since = (ns: number) => (ns - result.began) / 1e6;
    return result.runs.map(({ returned, outcomes }) => ({
      pulled: since(result.pulled),
      started: since(returned),
      heartbeat: since(outcome(outcomes, 'beat').ended),
      touched: touch === 'nothing' ? Number.NaN : since(outcome(outcomes, touch).ended),
      resident: since(outcome(outcomes, 'resident').ended),
      pass: passOf(outcomes),
      downloaded: since(result.meter.sentBy(fetched)),
      busy: result.meter.busyUntilSent(fetched),
      fetched,
    }));
  } finally {
    for (const pod of pods) await pod.remove();
  }
}

function handlerOf(starter: Starter): string {
  switch (starter) {
    case 'thaw':
      return handlers.thaw;
    case 'thaw-whole':
      return handlers.whole;
    case 'pull-unpack-restore':
      return handlers.runc;
  }
}

function passOf(outcomes: readonly Outcome[]): number {
  const { began, ended } = outcome(outcomes, 'pass');
  return (ended - began) / 1e6;
}

interface OneStart {
  cold: ColdBed;
  remote: Remote;
  pod: ColdPod;
  container: { image: string; imageRef: string; command: string[] };
  starter: Starter;
  touch: Touch;
  /** Says that this one has answered, and waits until all have. */
  answered(): void;
  everyone: Promise<unknown>;
}

async function startOne(one: OneStart): Promise<Restored> {
  const { cold, pod, container, starter } = one;
  const { bed } = cold;
  const containerId = await pod.create(container);
  if (starter !== 'pull-unpack-restore')
    return watch(bed.rootfs(containerId), one, () => bed.node.cri.startContainer(containerId));
  const bundle = await Bundle.make(bed, containerId);
  try {
    return await watch(bundle.rootfs, one, () => bundle.restore(join(bundle.rootfs, CHECKPOINT_DIR), false));
  } finally {
    await bundle.kill();
    await bundle.remove();
  }
}

/** One probe asks, another looks at the memory meanwhile. */
async function watch(rootfs: string, one: OneStart, start: () => Promise<void>): Promise<Restored> {
  const { remote, touch, answered, everyone } = one;
  const resident = `resident:${remote.pages}`;
  const asking = new Probe(rootfs, ['beat', touch === 'nothing' ? resident : touch]);
  const probes = [asking];
  if (touch !== 'nothing') probes.push(new Probe(rootfs, [resident]));
  try {
    const asked = nowNs();
    await start();
    const returned = nowNs();
    await asking.outcomes();
    answered();
    // Whatever is asked first, all of memory is compared in the end: by then it must not hold up another's answer.
    await everyone;
    if (touch !== 'pass') probes.push(new Probe(rootfs, ['pass']));
    const outcomes = (await Promise.all(probes.map((probe) => probe.outcomes()))).flat();
    const restored = { asked, returned, outcomes };
    check(restored, remote.answers);
    return restored;
  } finally {
    for (const probe of probes) probe.stop();
  }
}
