/**
 * GPU state on a real GPU, through the shim's own code for dump and restore, with runc and CRIU and without containerd.
 * Started by scripts/gpu-test; writes results.json. A section that fails says so there and does not stop the others.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { full } from './full.ts';
import { hostMemory } from './host-memory.ts';
import { ipcContainer } from './ipc-container.ts';
import { ipcPeer } from './ipc-peer.ts';
import { failure, Machine, WORK } from './machine.ts';
import { model } from './model.ts';
import { mps } from './mps.ts';
import { nccl } from './nccl.ts';
import { otherGpu } from './other-gpu.ts';
import { pinned } from './pinned.ts';
import { rollbacks } from './rollbacks.ts';
import { tokens } from './tokens.ts';
import { twoGpus } from './two-gpus.ts';

const [pack = '', results = 'results.json', commit = '', ...only] = process.argv.slice(2);

type Results = Record<string, unknown>;

async function main(): Promise<void> {
  rmSync(WORK, { recursive: true, force: true });
  mkdirSync(WORK, { recursive: true });
  const machine = new Machine(pack, process.env as Record<string, string>);
  const { driver, gpus } = await machine.helper.gpus();
  const now = { date: new Date().toISOString(), commit };
  const before =
    only.length > 0 && existsSync(results) ? (JSON.parse(readFileSync(results, 'utf8')) as Results) : {};
  const found: Results = {
    ...now,
    device: gpus.map(({ name, memoryBytes }) => ({ name, memory_bytes: memoryBytes })),
    driver,
    kernel: execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim(),
    images_in: 'tmpfs',
    sizes: [],
    host_memory: [],
    ...before,
  };
  // Sections that were run again, by themselves.
  if (before['date'] !== undefined)
    found['later'] = {
      ...(before['later'] as Results),
      ...Object.fromEntries(only.map((name) => [name, now])),
    };
  const section = async (name: string, work: () => Promise<unknown>) => {
    if (only.length > 0 && !only.includes(name)) return;
    process.stdout.write(`${name}\n`);
    const value = await work().catch((error: unknown) => ({ failed: failure(error) }));
    process.stdout.write(`${JSON.stringify(value)}\n`);
    const list = name.startsWith('size')
      ? 'sizes'
      : name.startsWith('host_memory')
        ? 'host_memory'
        : undefined;
    if (list) (found[list] as unknown[]).push(value);
    else found[name] = value;
    writeFileSync(results, `${JSON.stringify(found, null, 2)}\n`);
  };
  await section('size 1', () => tokens(machine, 1));
  await section('model', () => model(machine));
  await section('rollbacks', () => rollbacks(machine));
  await section('full', () => full(machine));
  if (gpus.length > 1) {
    await section('other_gpu', () => otherGpu(machine));
    await section('two_gpus', () => twoGpus(machine));
    for (const way of ['defaults', 'documented', 'group_left'] as const)
      await section(`nccl_${way}`, () => nccl(machine, way));
  }
  for (const kind of ['anonymous', 'memfd'] as const)
    await section(`host_memory ${kind}`, () => hostMemory(machine, kind, 8));
  await section('ipc_peer', () => ipcPeer(machine));
  await section('ipc_container', () => ipcContainer(machine));
  await section('mps', () => mps(machine));
  await section('pinned', () => pinned(machine, 4));
  for (const gib of [8, 32]) await section(`size ${gib}`, () => tokens(machine, gib));
  machine.helper.close();
  rmSync(WORK, { recursive: true, force: true });
}

await main();
process.exit(0);
