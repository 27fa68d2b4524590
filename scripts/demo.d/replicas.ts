/**
 * `--pods`: from none to four replicas of one checkpoint, at once on a node that knows nothing of it, then one after the
 * other on a node that has it; against the same server cold. Times are from StartContainer to the first answer.
 */
import { table } from '../table.ts';
import { checkpoint } from './cli.ts';
import type { Answer } from './model.ts';
import { holdings } from './node/holdings.ts';
import type { Pod, Timeline } from './pod.ts';
import { megabytes, seconds } from './report.ts';
import { type Pulled, question, round, type Stage } from './stage.ts';

const REPLICAS = 4;
const OWN_ANSWERS = 5;
/** What a trial touches for it comes first on every other node. */
const probe = `http://localhost:8080/answer?q=${encodeURIComponent(question)}`;

export interface ReplicasSummary {
  replicas: number;
  cold_first_answer_s: number;
  /** How long the warm server takes for the same answer. */
  own_answer_s: number;
  empty_node_first_answer_s: number[];
  warm_node_first_answer_s: number[];
  names_distinct: boolean;
  answers_equal: boolean;
  fetched_bytes: number;
}

interface Replica {
  pod: Pod;
  timeline: Timeline;
  answer: Answer;
}

export async function showReplicas(stage: Stage): Promise<ReplicasSummary> {
  const { steps, services } = stage;
  await stage.pull(services.pause);
  const before = await holdings(services.containerd);

  const coldPull = await stage.timedPull('Pull the base image', stage.cold);
  const source = await steps.step('Start it cold, ask the question', () =>
    stage.start('cold', stage.cold, coldPull.imageRef),
  );
  const own = await steps.step(`Ask it ${OWN_ANSWERS} times more`, () => ownAnswer(source.pod));
  await steps.talkingStep('Checkpoint it, push', () =>
    checkpoint(services.containerd, source.pod.containerId, stage.warm, probe),
  );
  await source.pod.remove();
  const coldOnes = await startAtOnce(stage, `Start ${REPLICAS} at once, cold`, 'cold', stage.cold, coldPull);
  await steps.step('Remove pods, images, snapshots and caches; check', () =>
    stage.clean(
      coldOnes.map(({ pod }) => pod),
      before,
    ),
  );

  const warmPull = await stage.timedPull('Pull the checkpoint image', stage.warm);
  const empty = await startAtOnce(stage, `Start ${REPLICAS} at once`, 'replica', stage.warm, warmPull);
  const fetched = await stage.sentSince(warmPull);
  await steps.step('Scale to none', () => removeAll(empty));

  const warm: Replica[] = [];
  for (let number = 1; number <= REPLICAS; number++) {
    const replica = await steps.step(`Start replica ${number} on the warm node`, () =>
      stage.start(`warm-${number}`, stage.warm, warmPull.imageRef),
    );
    warm.push(replica);
    const again = await replica.pod.server.ask(question);
    stage.expect(again.text === source.answer.text, `Replica ${number} gave another answer the second time`);
  }
  const restored = [...empty, ...warm];
  for (const { pod, answer } of restored) {
    const { name } = pod.config.metadata;
    stage.expect(answer.pod === name, `The server in ${name} takes itself for '${answer.pod}'`);
    // It goes on counting where the source was: one that started anew begins at 1.
    stage.expect(
      answer.answered > OWN_ANSWERS,
      `${name} was not restored: it counts ${answer.answered} answers`,
    );
  }
  const names = new Set(restored.map(({ answer }) => answer.pod));
  const namesDistinct = names.size === restored.length;
  stage.expect(namesDistinct, `${restored.length} replicas answered with the names ${[...names].join(', ')}`);
  const answersEqual = restored.every(({ answer }) => answer.text === source.answer.text);
  stage.expect(answersEqual, 'The answers of the replicas differ from that of the source');
  await steps.step('Scale to none', () => removeAll(warm));

  const summary: ReplicasSummary = {
    replicas: REPLICAS,
    cold_first_answer_s: round(firstAnswer(source)),
    own_answer_s: round(own),
    empty_node_first_answer_s: empty.map((replica) => round(firstAnswer(replica))),
    warm_node_first_answer_s: warm.map((replica) => round(firstAnswer(replica))),
    names_distinct: namesDistinct,
    answers_equal: answersEqual,
    fetched_bytes: fetched,
  };
  steps.line('');
  steps.line(report(summary, coldOnes.map(firstAnswer)));
  steps.line('');
  steps.line(`pulls before: cold ${seconds(coldPull.seconds)}, checkpoint ${seconds(warmPull.seconds)}`);
  steps.line(`sent by the registry for all replicas: ${megabytes(fetched)}`);
  steps.line(`each answers with its own pod's name: ${namesDistinct ? 'yes' : 'NO'}`);
  steps.line(`answers equal: ${answersEqual ? 'yes' : 'NO'} (${source.answer.digest})`);
  return summary;
}

function firstAnswer({ timeline }: Replica): number {
  return timeline.answered - timeline.created;
}

/** The median. */
async function ownAnswer({ server }: Pod): Promise<number> {
  const times: number[] = [];
  for (let count = 0; count < OWN_ANSWERS; count++) {
    const began = performance.now();
    await server.ask(question);
    times.push((performance.now() - began) / 1000);
  }
  return times.sort((a, b) => a - b)[Math.floor(OWN_ANSWERS / 2)] ?? 0;
}

/** All of them, or none is left and the first failure is thrown. */
async function startAtOnce(
  stage: Stage,
  title: string,
  name: string,
  image: string,
  { imageRef }: Pulled,
): Promise<Replica[]> {
  return stage.steps.step(
    title,
    async () => {
      const started = await Promise.allSettled(
        Array.from({ length: REPLICAS }, (_, index) => stage.start(`${name}-${index + 1}`, image, imageRef)),
      );
      const replicas = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      const failed = started.find((result) => result.status === 'rejected');
      if (failed) {
        await removeAll(replicas);
        throw failed.reason;
      }
      return replicas;
    },
    (replicas) => `the last answered after ${seconds(Math.max(...replicas.map(firstAnswer)))}`,
  );
}

async function removeAll(replicas: readonly Replica[]): Promise<void> {
  for (const { pod } of replicas) await pod.remove();
}

function report(summary: ReplicasSummary, coldAtOnce: readonly number[]): string {
  const columns = [coldAtOnce, summary.empty_node_first_answer_s, summary.warm_node_first_answer_s];
  const slowest = columns.map((times) => Math.max(...times));
  const { cold_first_answer_s: cold, own_answer_s: own } = summary;
  const ratio = (time: number) => ((time - own) / (cold - own)).toFixed(3);
  return table([
    [
      'StartContainer to first answer',
      'cold, alone',
      'cold, at once',
      'empty node, at once',
      'warm node, one by one',
    ],
    ...Array.from({ length: REPLICAS }, (_, index) => [
      `replica ${index + 1}`,
      index === 0 ? seconds(cold) : '',
      ...columns.map((times) => seconds(times[index] ?? 0)),
    ]),
    [
      `slowest, less ${seconds(own)} for the answer itself`,
      seconds(cold - own),
      ...slowest.map((time) => seconds(time - own)),
    ],
    ['of cold, alone', '1.000', ...slowest.map(ratio)],
  ]);
}
