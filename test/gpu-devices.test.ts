/** GPUs given to containers by CDI, or by a program in front of runc, on the fake driver of test/fake-libcuda. */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  cold,
  FILES,
  fault,
  gpuLine,
  look,
  lookLate,
  node,
  removePods,
  reset,
  runPod,
  seen,
  useGpuNode,
  WRAPPED,
} from './lib/gpu-node.ts';
import type { Pod, PodRequest } from './lib/kubelet-node.ts';

useGpuNode();

describe('with another GPU and the driver files that belong to it', () => {
  const minor = (value: number) => {
    reset(gpuLine(value));
    writeFileSync(`${FILES}/minor`, `${value}`);
  };
  /** How many mounts a hook makes that no spec has. */
  const checks: [string, number, (minor: number) => Partial<PodRequest>][] = [
    ['by CDI', 1, (value) => ({ devices: [`nvidia.com/gpu=${value}`] })],
    ['by a wrapper of runc', 0, () => ({ handler: WRAPPED })],
  ];
  const mounted = async (pod: Pod, point: RegExp) =>
    (await node.exec(pod, 'cat', '/proc/mounts')).split('\n').filter((line) => point.test(line));
  const DRIVER = / \/driver /;
  const HIDING = / \/run\/nvidia-ctk-hook\//;

  it.each(checks)('%s', async (how, hooks, given) => {
    const name = `test/gpu-${how.split(' ').at(-1)?.toLowerCase()}`;
    minor(0);
    const source = await runPod({ image: cold, ...given(0) });
    expect(await node.exec(source, 'cat', '/driver/name')).toBe('driver 0');
    expect(await mounted(source, HIDING)).toHaveLength(hooks);
    const before = await lookLate(source);
    const image = await node.checkpoint(source, name);
    await removePods();

    minor(1);
    const pod = await runPod({ image, ...given(1) });
    const after = await look(pod);
    expect(after.seen).toBe(seen(1));
    expect(after.count).toBeGreaterThan(before.count);
    expect(await node.exec(pod, 'cat', '/driver/name')).toBe('driver 1');
    expect(await mounted(pod, HIDING)).toEqual([]);
    expect(await node.exec(pod, 'stat', '-c', '%t:%T', '/dev/nvidia1')).toBe('c3:1\n');
    await removePods();

    // A cold start gets the same, and once.
    minor(1);
    fault('restore 0 2 2');
    const fresh = await runPod({ image, ...given(1) });
    expect((await look(fresh)).count).toBeLessThan(before.count);
    expect(await mounted(fresh, DRIVER)).toHaveLength(1);
    expect(await mounted(fresh, HIDING)).toHaveLength(hooks);
  });
});
