/** What is asked of a container while its memory is still on its way. */
import { expect, it } from 'vitest';
import { sleep, until } from './lib/index.ts';
import { type LazyNode, useLazyNode } from './lib/lazy-node.ts';

let lazy: LazyNode;
useLazyNode((node) => {
  lazy = node;
});

const task = (...args: string[]) => lazy.node.containerd.ctr(['-n', 'k8s.io', 'task', ...args]);

it('is paused and resumed before its memory is here, and is filled while it stands still', async () => {
  const pod = await lazy.runHeld();
  await task('pause', pod.containerId);
  await task('resume', pod.containerId);
  await lazy.beats(pod);
  lazy.tell(pod, 'check');
  await sleep(200);
  await task('pause', pod.containerId);
  lazy.letGo();
  await lazy.drained();
  expect(lazy.hasAnswered(pod)).toBe(false);
  await task('resume', pod.containerId);
  await lazy.answered(pod, 'check');
});

it('is saved once all of its memory is here, and what was saved is right', async () => {
  const pod = await lazy.runHeld();
  lazy.tell(pod, 'touch');
  let saved = false;
  const saving = lazy.save(pod, 'test/memory', 'second').then(() => {
    saved = true;
  });
  await sleep(1500);
  expect(saved).toBe(false);
  lazy.letGo();
  await saving;
  await lazy.answered(pod, 'touch');
  await lazy.check(pod);
  await lazy.removePods();
  const second = `${lazy.link.host}/test/memory:second`;
  try {
    const restored = await lazy.runHeld(second);
    lazy.letGo();
    await lazy.check(restored);
    await lazy.ask(restored, 'touch');
    await lazy.check(restored);
  } finally {
    await lazy.removePods();
    await lazy.node.forget(second);
  }
});

it('keeps its checkpoint on the node, also when the snapshotter has just been killed', async () => {
  const pod = await lazy.runHeld();
  const evict = async () => {
    const { stdout } = await lazy.node.thaw(['status', '--json']);
    const { checkpoints } = JSON.parse(stdout) as { checkpoints: { id: string }[] };
    expect(checkpoints).toHaveLength(1);
    return lazy.node.thaw(['evict', checkpoints[0]?.id ?? ''], { allowFailure: true });
  };
  expect(await evict()).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/the memory of a container still comes from it/),
  });
  await lazy.node.killSnapshotter();
  await lazy.node.startSnapshotter();
  expect(await evict()).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/the memory of a container still comes from it/),
  });
  lazy.letGo();
  await lazy.check(pod);
  // Also when nothing is missing any more: others may be restored from it.
  await lazy.drained();
  await lazy.check(pod);
});

it('forks, and every process reads and writes memory that is not here yet', async () => {
  const pod = await lazy.runHeld();
  lazy.tell(pod, 'fork 3');
  await sleep(200);
  lazy.letGo();
  await lazy.answered(pod, 'fork 3');
  await lazy.drained();
  await lazy.check(pod);
});

it('moves, gives up and makes anew memory that is not here yet', async () => {
  const pod = await lazy.runHeld();
  lazy.tell(pod, 'churn');
  await sleep(200);
  lazy.letGo();
  await lazy.answered(pod, 'churn');
  await lazy.drained();
  await lazy.check(pod);
});

it('is a hundred processes, each of which gets its own memory', async () => {
  const crowd = await lazy.run(lazy.cold, { command: lazy.command(1) });
  await lazy.beats(crowd);
  await lazy.ask(crowd, 'crowd 99');
  const warm = await lazy.save(crowd, 'test/crowd');
  await lazy.ask(crowd, 'meet');
  await lazy.removePods();
  await lazy.node.forget(warm);
  const pod = await lazy.run(warm, { command: lazy.command(1) });
  await lazy.expectRestored(pod);
  // Nobody can read the command line of a process before its memory has come.
  await until('all processes to have a name', () => lazy.workloads().length === 100);
  await lazy.ask(pod, 'meet');
  await lazy.drained();
  await lazy.check(pod);
  await lazy.removePods();
  await lazy.node.forget(warm);
});
