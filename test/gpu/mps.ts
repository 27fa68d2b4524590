import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Container, hold } from './container.ts';
import { expectFailure, IMAGES, type Machine, WORK } from './machine.ts';

const CONTROL = ['/usr/local/nvidia/bin/nvidia-cuda-mps-control', '/usr/bin/nvidia-cuda-mps-control'];

/** A client of NVIDIA's MPS, which needs the IPC and PID namespaces of the server. */
export async function mps(machine: Machine) {
  const control = CONTROL.find((path) => existsSync(path));
  if (!control) return { failed: 'there is no nvidia-cuda-mps-control' };
  const pipes = join(WORK, 'mps');
  mkdirSync(pipes, { recursive: true });
  const env = { CUDA_MPS_PIPE_DIRECTORY: pipes, CUDA_MPS_LOG_DIRECTORY: pipes };
  const run = (...args: string[]) =>
    execFileSync(control, args, {
      env: { ...process.env, ...env },
      input: 'quit\n',
      stdio: ['pipe', 'ignore', 'ignore'],
    });
  run('-d');
  const box = new Container(machine, 'mps', hold('mps', 1024)).say({}, env);
  box.join(['ipc', 'pid'], [pipes, '/dev/shm']);
  try {
    await box.start();
    const before = await box.sum();
    return {
      reason: await expectFailure(box.dump(IMAGES, { exit: false })),
      goes_on: (await box.goesOn()) !== '',
      memory_equal: (await box.sum()) === before,
    };
  } finally {
    await box.remove();
    try {
      run();
    } catch {
      // It ends with its last client's answer unread, or has ended.
    }
    rmSync(pipes, { recursive: true, force: true });
  }
}
