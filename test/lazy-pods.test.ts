/** Pods on images with lazy layers: they start before their layers are here, are saved, and start again on an empty node. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { assertNothingLeft, type Leftovers, takeStock, until } from './lib/index.ts';
import { KubeletNode, type Pod } from './lib/kubelet-node.ts';
import { NOISE_BYTES, noise } from './lib/odd-layers.ts';
import { SlowLink } from './lib/slow-link.ts';

const REPOSITORY = 'test/lazy';
const SLOW = 500_000;
const COUNTER = 'n=0; while :; do n=$((n+1)); echo $n > /count.new; mv /count.new /count; sleep 0.1; done';
const command = ['/bin/sh', '-c', COUNTER];

let stock: Leftovers;
let node: KubeletNode;
let link: SlowLink;

beforeAll(async () => {
  stock = takeStock();
  node = await KubeletNode.start();
  link = await SlowLink.start(node.registry.host);
  const content = { path: 'noise', content: noise };
  const source = await node.pushImage(REPOSITORY, [content], command);
  await node.thaw(['convert', '--lazy', source, `${node.registry.host}/${REPOSITORY}:lazy`]);
});
afterAll(async () => {
  await node.stop();
  await link.cut();
  await assertNothingLeft(stock);
});

const countOf = (pod: Pod) =>
  until('the counter to count', async () => Number(await node.exec(pod, 'cat', '/count').catch(() => '')));

/** Before most of the image can have come; then the rest may, and must be right. */
async function runEarly(image: string): Promise<{ pod: Pod; count: number }> {
  link.rate = SLOW;
  const before = link.sent;
  const pod = await node.runPod({ image, command });
  const count = await countOf(pod);
  expect(link.sent - before).toBeLessThan(NOISE_BYTES / 2);
  link.rate = Number.POSITIVE_INFINITY;
  const sum = await node.exec(pod, '/bin/busybox', 'sha256sum', '/noise');
  expect(sum.split(' ')[0]).toBe(createHash('sha256').update(noise).digest('hex'));
  return { pod, count };
}

async function forget(image: string): Promise<void> {
  await node.forget(image);
  await node.containerd.collectGarbage();
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(' erofs ');
}

it('start cold and warm before their layers are here', async () => {
  const cold = await runEarly(`${link.host}/${REPOSITORY}:lazy`);
  // More than a counter that begins anew can have reached when it is first asked.
  const far = async () => {
    const count = await countOf(cold.pod);
    return count >= 80 && count;
  };
  const saved = await until('the counter to be far', far, 60_000);
  await node.checkpoint(cold.pod, REPOSITORY);
  // What its restore read of the base, which comes first below: not of the noise.
  const inspected = await node.thaw(['inspect', `${node.registry.host}/${REPOSITORY}:warm`, '--json']);
  const { index } = JSON.parse(inspected.stdout) as { index: { layerReads: { frames: number }[] } };
  expect(index.layerReads.map(({ frames }) => frames)).toEqual([expect.any(Number)]);
  expect(index.layerReads[0]?.frames).toBeGreaterThan(0);
  await node.removePod(cold.pod);
  await forget(`${link.host}/${REPOSITORY}:lazy`);

  const warm = await runEarly(`${link.host}/${REPOSITORY}:warm`);
  expect(warm.count).toBeGreaterThanOrEqual(saved);
  await node.removePod(warm.pod);
  await forget(`${link.host}/${REPOSITORY}:warm`);
});
