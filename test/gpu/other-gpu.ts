import { Container, hold } from './container.ts';
import { IMAGES, type Machine } from './machine.ts';

/** Restored with another GPU than it was dumped with: each is given one of two. */
export async function otherGpu(machine: Machine) {
  const { gpus } = await machine.helper.gpus();
  const [first, second] = gpus;
  if (!first || !second) return { failed: 'there is one GPU' };
  const box = await new Container(machine, 'moves', hold('moves', 4096), [first.minor]).start();
  try {
    const before = await box.sum();
    await box.dump(IMAGES);
    box.give([second.minor]);
    const ms = await box.restore(IMAGES);
    const isOn = (await machine.helper.use()).some(({ pid }) => pid === box.pid);
    const text = await box.goesOn();
    return {
      token_kept: ['cpu', 'file', 'gpu'].every((name) => text.includes(` ${name}=moves...`)),
      memory_equal: (await box.sum()) === before,
      uses_a_gpu: isOn,
      moved: machine.said('GPU state is back', 'moved') === true,
      restore_ms: machine.number('GPU state is back', 'restoreMs'),
      ms: Math.round(ms),
    };
  } finally {
    await box.remove();
  }
}
