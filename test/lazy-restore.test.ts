/** Memory that comes later, over a link that fails: the process waits, goes on, and never reads a wrong byte. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { sleep, until } from './lib/index.ts';
import { type LazyNode, useLazyNode } from './lib/lazy-node.ts';

let lazy: LazyNode;
useLazyNode((node) => {
  lazy = node;
});

it('runs while most of its memory is not here, and reads all of it right', async () => {
  // Floats, and what only LZ4 makes smaller.
  const { sizes } = JSON.parse((await lazy.node.thaw(['inspect', lazy.warm, '--json'])).stdout);
  expect(sizes.codecs.planes.chunks).toBeGreaterThan(10);
  expect(sizes.codecs.lz4.chunks).toBeGreaterThan(10);
  const pod = await lazy.runHeld();
  await lazy.beats(pod);
  lazy.tell(pod, 'check');
  await sleep(300);
  await lazy.beats(pod);
  expect(lazy.hasAnswered(pod)).toBe(false);
  lazy.letGo();
  await lazy.answered(pod, 'check');
  await lazy.drained();
  await lazy.ask(pod, 'touch');
  await lazy.check(pod);
});

/** What counts for the container. Source: the kernel's cgroup-v2.rst and cgroup-v1/memory.rst. */
function sharedBytes(pid: number): number {
  const cgroups = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
  const v1 = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m.exec(cgroups)?.[1];
  const dir = v1 === undefined ? (/^0::(.*)$/m.exec(cgroups)?.[1] ?? '') : `memory${v1}`;
  const stat = readFileSync(join('/sys/fs/cgroup', dir, 'memory.stat'), 'utf8');
  return Number(/^(?:total_)?shmem (\d+)$/m.exec(stat)?.[1]);
}

it('has its shared memory right when it runs: memfds, sealed ones, and what it has without a file', async () => {
  const command = [...lazy.command(64), 'shared'];
  const source = await lazy.run(lazy.cold, { command });
  await lazy.beats(source);
  await lazy.ask(source, 'share');
  const image = await lazy.save(source, 'test/shared');
  await lazy.ask(source, 'share');
  await lazy.removePods();
  await lazy.node.forget(image);
  const log = lazy.shimLog();
  const pod = await lazy.run(image, { command });
  // Lines keep their order.
  await lazy.expectRestored(pod);
  const line = log()
    .split('\n')
    .find((text) => text.includes('shared memory is in place'));
  expect(JSON.parse(line ?? '{}')).toMatchObject({ segments: 3 });
  // Blocks of zeros stay holes.
  expect(sharedBytes(lazy.workloads()[0] ?? 0)).toBeGreaterThan(36 << 20);
  await lazy.ask(pod, 'share');
  await lazy.ask(pod, 'fork 2');
  await lazy.drained();
  await lazy.check(pod);
  await lazy.removePods();
  await lazy.node.forget(image);
});

it('waits for a snapshotter that was killed, and goes on', async () => {
  const pod = await lazy.runHeld();
  lazy.tell(pod, 'check');
  await sleep(200);
  await lazy.node.killSnapshotter();
  lazy.letGo();
  await lazy.beats(pod);
  expect(lazy.hasAnswered(pod)).toBe(false);
  await lazy.node.startSnapshotter();
  await lazy.answered(pod, 'check');
  await lazy.drained();
});

it('waits for a registry that is gone, and goes on', async () => {
  const pod = await lazy.runHeld();
  lazy.tell(pod, 'check');
  await lazy.link.cut();
  lazy.letGo();
  await sleep(3000);
  await lazy.beats(pod);
  expect(lazy.hasAnswered(pod)).toBe(false);
  await lazy.link.mend();
  await lazy.answered(pod, 'check');
  await lazy.drained();
});

it('is restored without a registry once all of it was here', async () => {
  const first = await lazy.run(lazy.warm);
  await lazy.drained();
  await lazy.link.cut();
  await lazy.node.registry.halt();
  try {
    const second = await lazy.run(lazy.warm);
    await lazy.expectRestored(second);
    await lazy.check(second);
    await lazy.check(first);
  } finally {
    await lazy.node.registry.restart();
  }
});

it('goes on with right bytes where the first ones that came were wrong', async () => {
  const pod = await lazy.runHeld();
  lazy.tell(pod, 'check');
  lazy.link.spoil = 3;
  lazy.letGo();
  await lazy.answered(pod, 'check');
  expect(lazy.link.spoil).toBe(0);
});

it('is killed where bytes stay wrong, also if it reads none of them', async () => {
  const log = lazy.shimLog();
  const pod = await lazy.runHeld();
  lazy.link.spoil = Number.POSITIVE_INFINITY;
  lazy.letGo();
  expect(await lazy.ended(pod)).toBe(137);
  expect(lazy.wrong(pod)).toBe('');
  await until('the shim to say why', () => /corrupt.*killing the restored container/.test(log()));
});

it('is killed with a clear error where bytes stay wrong, before it reads one', async () => {
  const log = lazy.shimLog();
  const pod = await lazy.runHeld();
  lazy.link.spoil = Number.POSITIVE_INFINITY;
  lazy.tell(pod, 'check');
  lazy.letGo();
  expect(await lazy.ended(pod)).toBe(137);
  expect(lazy.wrong(pod)).toBe('');
  expect(lazy.hasAnswered(pod)).toBe(false);
  await until('the shim to say why', () => /corrupt.*killing the restored container/.test(log()));
  // The kubelet's next try must not end in the same way.
  const next = { ...(await pod.again()), dir: pod.dir };
  await lazy.node.cri.startContainer(next.containerId);
  expect(await lazy.node.startOf(next)).toMatch(/had to be killed: .*corrupt.*starting cold/);
  await lazy.check(next);
});
