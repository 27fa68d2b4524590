import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Container, hold } from './container.ts';
import { expectFailure, IMAGES, type Machine } from './machine.ts';

/** A checkpoint that fails leaves the workload as it was. */
export async function rollbacks(machine: Machine) {
  const out: Record<string, object> = {};
  const box = await new Container(machine, 'busy', hold('busy', 1024, '--spin', '20000')).start();
  try {
    const before = await box.sum();
    out['dump_fails_after_gpu'] = {
      reason: await expectFailure(box.dump(IMAGES, { exit: false, parentPath: 'nonexistent' })),
      goes_on: (await box.goesOn()) !== '',
      memory_equal: (await box.sum()) === before,
    };
    rmSync(IMAGES, { recursive: true, force: true });
    await machine.runc.pause(box.id);
    await box.dump(IMAGES, { exit: false, paused: true });
    const frozen = box.last();
    await sleep(500);
    const stood = box.last() === frozen;
    await machine.runc.resume(box.id);
    await box.afterResume?.();
    out['paused'] = {
      stood_still: stood,
      goes_on: (await box.goesOn()) !== '',
      memory_equal: (await box.sum()) === before,
    };
    rmSync(IMAGES, { recursive: true, force: true });
    process.kill(box.pid, 'SIGUSR2');
    await box.until(/^spinning /m);
    const began = performance.now();
    out['lock_times_out_under_load'] = {
      reason: await expectFailure(box.dump(IMAGES, { exit: false })),
      ms: Math.round(performance.now() - began),
      goes_on: (await box.goesOn()) !== '',
      memory_equal: (await box.sum()) === before,
    };
  } finally {
    await box.remove();
  }
  return out;
}
