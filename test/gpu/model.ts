/** A PyTorch model on the GPU. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Container } from './container.ts';
import { IMAGES, type Machine } from './machine.ts';

export const PYTHON = ['/opt/torch/.venv/bin/python3', '/usr/bin/python3'];

const MODEL = `
import time, torch
torch.manual_seed(7)
wide = 4096
model = torch.nn.Sequential(*[torch.nn.Linear(wide, wide) for _ in range(16)]).half().cuda()
question = torch.randn(8, wide).half().cuda()
out = open('/out', 'a', buffering=1)
n = 0
while True:
    with torch.no_grad(): answer = model(question).double().sum().item()
    n += 1
    out.write('answer %d %r\\n' % (n, answer))
    time.sleep(0.1)
`;

/** The same answer before and after. */
export async function model(machine: Machine) {
  const python = PYTHON.find((path) => existsSync(path)) ?? 'python3';
  const box = new Container(machine, 'model', [python, '/model.py']);
  writeFileSync(join(box.bundle, 'rootfs/model.py'), MODEL);
  const began = performance.now();
  try {
    await box.start();
    const coldMs = Math.round(performance.now() - began);
    const before = (await box.goesOn()).split(' ')[2];
    const dumpMs = await box.dump(IMAGES);
    const restoreMs = await box.restore(IMAGES);
    const count = Number(box.last().split(' ')[1]);
    const [, n, after] = (await box.goesOn()).split(' ');
    return {
      answers_equal: before !== undefined && before === after && Number(n) > count,
      gpu_bytes: machine.number('GPU state is in memory', 'gpuBytes'),
      ms: { cold_first_answer: coldMs, dump: Math.round(dumpMs), restore: Math.round(restoreMs) },
    };
  } finally {
    await box.remove();
  }
}
