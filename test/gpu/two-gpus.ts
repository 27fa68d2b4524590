import { existsSync, rmSync } from 'node:fs';
import { Container, hold, INDEPENDENT } from './container.ts';
import { failure, IMAGES, type Machine } from './machine.ts';

/** One process with two GPUs, without and with access of each to the other's memory. */
export async function twoGpus(machine: Machine) {
  return {
    not_said: await tried(machine, {}),
    apart: await tried(machine, INDEPENDENT),
    peer_access_if_let: await tried(machine, INDEPENDENT, '--access'),
  };
}

async function tried(machine: Machine, annotations: Record<string, string>, ...more: string[]) {
  const args = hold('two', 1024, '--second', ...more);
  const box = await new Container(machine, 'two', args).say(annotations).start();
  const has = (text: string) =>
    ['cpu', 'file', 'gpu', 'second'].every((name) => text.includes(` ${name}=two...`));
  try {
    const before = await box.sum();
    const refused = await box.dump(IMAGES, { exit: false }).then(() => undefined, failure);
    // No program: it was killed.
    const goesOn = existsSync(`/proc/${box.pid}/exe`) && has(await box.goesOn());
    if (refused !== undefined) return { reason: refused, goes_on: goesOn };
    rmSync(IMAGES, { recursive: true, force: true });
    await box.dump(IMAGES);
    await box.restore(IMAGES);
    return {
      goes_on: goesOn,
      token_kept: has(await box.goesOn()),
      memory_equal: (await box.sum()) === before,
      restore_ms: machine.number('GPU state is back', 'restoreMs'),
    };
  } finally {
    await box.remove();
  }
}
