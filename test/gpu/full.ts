import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Container, hold } from './container.ts';
import { expectFailure, IMAGES, type Machine, WORK } from './machine.ts';

/** A restore onto a GPU that is full fails, leaves nothing, and works once there is room. */
export async function full(machine: Machine) {
  const box = await new Container(machine, 'full', hold('full', 4096)).start();
  const file = join(WORK, 'hog');
  try {
    await box.dump(IMAGES);
    const room = Math.floor(((await machine.helper.gpus()).gpus[0]?.memoryBytes ?? 0) / 2 ** 20) - 3000;
    const args = ['--token', 'hog', '--file', `${file}.token`, '--out', file, '--mib', String(room)];
    const hog = spawn(join(machine.pack, 'bin/hold'), args, { stdio: 'ignore' });
    try {
      for (
        let waited = 0;
        waited < 60_000 && !/^(ready|failed)/m.test(existsSync(file) ? readFileSync(file, 'utf8') : '');
        waited += 100
      )
        await sleep(100);
      const reason = await expectFailure(box.restore(IMAGES));
      const left = execFileSync('sh', ['-c', 'pgrep -fc "[h]old --token full" || true'], {
        encoding: 'utf8',
      }).trim();
      const ended = new Promise((resolve) => hog.once('exit', resolve));
      hog.kill('SIGKILL');
      await ended;
      await sleep(1000);
      await box.restore(IMAGES);
      return {
        reason,
        processes_left: Number(left),
        restored_later: (await box.goesOn()).includes(' gpu=full...'),
      };
    } finally {
      hog.kill('SIGKILL');
    }
  } finally {
    await box.remove();
  }
}
