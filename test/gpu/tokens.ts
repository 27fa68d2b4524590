import { execFileSync } from 'node:child_process';
import { Container, hold } from './container.ts';
import { IMAGES, type Machine, rate } from './machine.ts';

/** One token each in CPU memory, in a file and on the GPU; all GPU memory is compared too. */
export async function tokens(machine: Machine, gib: number) {
  const box = await new Container(machine, `hold-${gib}`, hold(`token-${gib}`, gib * 1024)).start();
  try {
    const before = await box.sum();
    const dumpMs = await box.dump(IMAGES);
    const lockMs = machine.number('GPU state is in memory', 'lockMs');
    const checkpointMs = machine.number('GPU state is in memory', 'checkpointMs');
    const gpuBytes = machine.number('GPU state is in memory', 'gpuBytes');
    const imageBytes = Number(execFileSync('du', ['-sb', IMAGES], { encoding: 'utf8' }).split('\t')[0]);
    const allMs = await box.restore(IMAGES);
    const restoreMs = machine.number('GPU state is back', 'restoreMs');
    const unlockMs = machine.number('GPU state is back', 'unlockMs');
    const text = await box.goesOn();
    const isEqual = (await box.sum()) === before;
    const servedMs = await box.restore(IMAGES, true);
    const servedRestoreMs = machine.number('GPU state is back', 'restoreMs');
    const filledMs = machine.number('no memory of the checkpoint is waited for any more', 'ms');
    const again = await box.goesOn();
    const kept = (name: string) => [text, again].every((line) => line.includes(` ${name}=token-${gib}...`));
    const criuDumpMs = Math.round(dumpMs - lockMs - checkpointMs);
    const criuRestoreMs = Math.round(allMs - restoreMs - unlockMs);
    return {
      gib,
      gpu_bytes: gpuBytes,
      image_bytes: imageBytes,
      token_kept: { cpu: kept('cpu'), file: kept('file'), gpu: kept('gpu') },
      memory_equal: isEqual && (await box.sum()) === before,
      page_server: {
        criu_ms: Math.round(servedMs - servedRestoreMs),
        restore_ms: servedRestoreMs,
        all_ms: Math.round(servedMs),
        filled_ms: filledMs,
      },
      ms: {
        lock: lockMs,
        checkpoint: checkpointMs,
        criu_dump: criuDumpMs,
        criu_restore: criuRestoreMs,
        restore: restoreMs,
        unlock: unlockMs,
      },
      gb_per_s: {
        checkpoint: rate(gpuBytes, checkpointMs),
        criu_dump: rate(imageBytes, criuDumpMs),
        criu_restore: rate(imageBytes, criuRestoreMs),
        restore: rate(gpuBytes, restoreMs),
      },
    };
  } finally {
    await box.remove();
  }
}
