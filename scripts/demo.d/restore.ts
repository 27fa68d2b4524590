/** The demo: one server cold, saved while it serves, restored on a node that knows nothing of it, and once more. */
import { randomBytes } from 'node:crypto';
import { table } from '../table.ts';
import { checkRestored } from './check.ts';
import { checkpoint } from './cli.ts';
import { holdings } from './node/holdings.ts';
import { megabytes, seconds } from './report.ts';
import { question, round, type Stage } from './stage.ts';

export interface RestoreSummary {
  cold_s: number;
  restore_s: number;
  answers_equal: boolean;
  token_kept: boolean;
  image_bytes: number;
  fetched_bytes: number;
}

export async function showRestore(stage: Stage): Promise<RestoreSummary> {
  const { steps, services } = stage;
  await stage.pull(services.pause);
  const start = (title: string, name: string, image: string, imageRef: string) =>
    steps.step(
      `${title}, ask the question`,
      () => stage.start(name, image, imageRef),
      ({ timeline }) => `first answer after ${seconds(timeline.answered)}`,
    );
  const before = await holdings(services.containerd);

  const coldPull = await stage.timedPull('Pull the base image', stage.cold);
  const cold = await start('Start it cold', 'cold', stage.cold, coldPull.imageRef);
  const coldSent = await stage.sentSince(coldPull);
  const token = randomBytes(12).toString('hex');
  await cold.pod.server.setToken(token);
  const asked = await cold.pod.server.ask(question);
  stage.expect(asked.text === cold.answer.text, 'The same server answered one question in two ways');

  const { load, result: saved } = await steps.talkingStep(
    'Checkpoint it while it serves, push',
    () =>
      cold.pod.server.serveWhile(question, () =>
        checkpoint(services.containerd, cold.pod.containerId, stage.warm),
      ),
    ({ load, result }) =>
      `${load.answers} answers meanwhile; it stood still for ${seconds(result.pausedMs / 1000)}`,
  );
  for (const { label, ms } of saved.steps)
    steps.line(`    ${label.padEnd(58)} ${seconds(ms / 1000).padStart(9)}`);
  stage.expect(
    load.failures.length === 0,
    `While it was saved, the source did not answer: ${load.failures[0]}`,
  );
  stage.expect(
    [...load.texts].every((text) => text === cold.answer.text),
    'While it was saved, the source answered differently',
  );
  const after = await cold.pod.server.ask(question);
  stage.expect(after.text === cold.answer.text, 'The source answered differently after the checkpoint');
  stage.expect((await cold.pod.server.token()) === token, 'The source lost its token');
  const imageBytes = await stage.imageBytes(stage.warm);

  await steps.step('Remove the pod, the images, snapshots and caches; check', () =>
    stage.clean([cold.pod], before),
  );

  const warmPull = await stage.timedPull('Pull the checkpoint image', stage.warm);
  const restored = await start('Start it: restore', 'restored', stage.warm, warmPull.imageRef);
  const tokenKept = (await restored.pod.server.token()) === token;
  const answersEqual = restored.answer.text === cold.answer.text;
  stage.expect(answersEqual, `The answers differ: ${cold.answer.text} and ${restored.answer.text}`);
  stage.expect(tokenKept, 'The token is gone');
  await steps.step('Check exec, logs, PID 1, kill and exit code', async () => {
    stage.complaints.push(...(await checkRestored(restored.pod, restored.answer, { before: asked, after })));
  });
  await restored.pod.remove();
  const fetched = await stage.sentSince(warmPull);

  const again = await start('Start a second one', 'second', stage.warm, warmPull.imageRef);
  stage.expect(again.answer.text === cold.answer.text, 'The second replica answered differently');
  stage.expect((await again.pod.server.token()) === token, 'The second replica lost the token');
  await again.pod.remove();

  steps.line('');
  steps.line(
    table([
      ['', 'cold', 'restore', 'restore, again'],
      ['pull', seconds(coldPull.seconds), seconds(warmPull.seconds), ''],
      ...(['sandbox', 'created', 'started', 'answered'] as const).map((part) => [
        `RunPodSandbox to ${partNames[part]}`,
        seconds(cold.timeline[part]),
        seconds(restored.timeline[part]),
        seconds(again.timeline[part]),
      ]),
      [
        'pull and start to first answer',
        seconds(coldPull.seconds + cold.timeline.answered),
        seconds(warmPull.seconds + restored.timeline.answered),
        '',
      ],
      ['image in the registry', megabytes(stage.base.bytes), megabytes(imageBytes), ''],
      ['of it the checkpoint', '', megabytes(saved.storedBytes), ''],
      ['the checkpoint, decoded', '', megabytes(saved.decodedBytes), ''],
      ['sent by the registry', megabytes(coldSent), megabytes(fetched), ''],
    ]),
  );
  steps.line('');
  steps.line(`answers equal: ${answersEqual ? 'yes' : 'NO'} (${cold.answer.digest})`);
  steps.line(`token kept in memory: ${tokenKept ? 'yes' : 'NO'} (${token})`);
  return {
    cold_s: round(cold.timeline.answered),
    restore_s: round(restored.timeline.answered),
    answers_equal: answersEqual,
    token_kept: tokenKept,
    image_bytes: imageBytes,
    fetched_bytes: fetched,
  };
}

const partNames = {
  sandbox: 'network ready',
  created: 'container created',
  started: 'container started',
  answered: 'first answer',
} as const;
