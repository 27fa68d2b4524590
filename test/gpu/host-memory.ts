import { execFileSync } from 'node:child_process';
import { Container, hold } from './container.ts';
import { IMAGES, type Machine, rate } from './machine.ts';

/**
 * A process of the same shape without a GPU: private memory, which the page server fills, or a memfd of the same size,
 * which the shim fills while CRIU waits. How many cores worked is known for these alone, as they run in this process.
 */
export async function hostMemory(machine: Machine, kind: 'anonymous' | 'memfd', gib: number) {
  const args = hold(
    kind,
    0,
    '--host',
    String(gib * 1024),
    '--no-gpu',
    ...(kind === 'memfd' ? ['--memfd'] : []),
  );
  const box = await new Container(machine, `host-${kind}`, args, []).start();
  try {
    const before = await box.sum();
    await box.dump(IMAGES);
    const imageBytes = Number(execFileSync('du', ['-sb', IMAGES], { encoding: 'utf8' }).split('\t')[0]);
    const used = process.cpuUsage();
    const began = performance.now();
    const criuMs = await box.restore(IMAGES, true);
    const allMs = performance.now() - began;
    const { user, system } = process.cpuUsage(used);
    return {
      kind,
      image_bytes: imageBytes,
      memory_equal: (await box.sum()) === before,
      ms: { running: Math.round(criuMs), all: Math.round(allMs) },
      gb_per_s: rate(imageBytes, allMs),
      cores: Math.round((user + system) / 100 / allMs) / 10,
    };
  } finally {
    await box.remove();
  }
}
