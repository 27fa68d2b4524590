import { execFileSync } from 'node:child_process';
import { readSegments } from '../../shim/restore/shared/segments.ts';
import { Container, hold } from './container.ts';
import { IMAGES, type Machine } from './machine.ts';

/** Pinned memory of the host (cuMemHostAlloc): what kind of memory it is to CRIU, and what it costs. */
export async function pinned(machine: Machine, gib: number) {
  const box = await new Container(
    machine,
    'pinned',
    hold('pinned', 1024, '--pinned', String(gib * 1024)),
  ).start();
  try {
    const before = await box.sum();
    await box.dump(IMAGES);
    const imageBytes = Number(execFileSync('du', ['-sb', IMAGES], { encoding: 'utf8' }).split('\t')[0]);
    const shared = (await readSegments(IMAGES)).reduce((sum, { bytes }) => sum + Number(bytes), 0);
    const ms = await box.restore(IMAGES, true);
    const text = await box.goesOn();
    const restoreMs = machine.number('GPU state is back', 'restoreMs');
    return {
      gib,
      gpu_bytes: machine.number('GPU state is back', 'gpuBytes'),
      image_bytes: imageBytes,
      shared_bytes: shared,
      token_kept: ['cpu', 'file', 'gpu'].every((name) => text.includes(` ${name}=pinned...`)),
      memory_equal: (await box.sum()) === before,
      ms: { criu: Math.round(ms - restoreMs), restore: restoreMs, all: Math.round(ms) },
    };
  } finally {
    await box.remove();
  }
}
