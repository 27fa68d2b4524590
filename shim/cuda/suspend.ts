/**
 * The GPU side of a dump: before CRIU the processes leave the GPU, after it they come back. A frozen container is let go
 * on meanwhile, as the driver needs the processes to run; what comes after the dump then waits until it is resumed, so
 * that nothing changes between the dump and the copy of its files.
 */
import { Code, describeError } from '../../proto/status.ts';
import { killTree, procTree, treeOf } from '../process/process-tree.ts';
import type { DumpInput } from '../task/start-plan.ts';
import { expectCaptured, memoryOfAll } from './captured.ts';
import type { CudaDriver } from './driver.ts';
import { CudaError } from './error.ts';
import { type CudaFacts, unsupported, visibleGpus } from './gpus.ts';
import { gpuPeers } from './peers.ts';
import { cudaProcesses, expectNoDevices, gpuTraces, type Traces } from './processes.ts';
import { memoryLimits, refuseLack } from './room.ts';
import { comeBack, leaveGpu } from './sequence.ts';
import { sharingRisk } from './sharing.ts';

/** How long the GPU may take to finish what it was given. */
const LOCK_TIMEOUT_MS = 10_000;

/** A driver with the program behind it. */
export type Helper = CudaDriver & { close(): void };

export type SuspendInput = Pick<DumpInput, 'id' | 'pid' | 'spec' | 'paused' | 'exit' | 'runc' | 'log'>;

export interface SuspendedGpu {
  facts: CudaFacts;
  /** After CRIU: the processes are back, or what is returned brings them back once the container is resumed. */
  finish(outcome: 'dumped' | 'failed'): Promise<(() => Promise<void>) | undefined>;
}

/** Undefined for a container without GPU state. A rejection leaves it as it was. */
export async function suspendGpu(
  input: SuspendInput,
  makeHelper: () => Helper,
): Promise<SuspendedGpu | undefined> {
  const traces = await gpuTraces(input.pid);
  if (traces.length === 0) return undefined;
  const helper = makeHelper();
  let isKept = false;
  try {
    const processes = await cudaProcesses(traces, helper);
    if (processes.length === 0) return undefined;
    const facts = await factsOf(input, processes, helper);
    const pids = processes.map(({ pid }) => pid);
    await suspend(input, pids, facts, helper);
    isKept = true;
    return {
      facts,
      async finish(outcome) {
        const goesOn = outcome === 'failed' || !input.exit;
        if (goesOn && !input.paused) await bringBack(input, pids, helper);
        else helper.close();
        // Nobody knows whether it will be resumed, and when: that is a call of its own.
        return goesOn && input.paused ? () => bringBack(input, pids, makeHelper()) : undefined;
      },
    };
  } finally {
    if (!isKept) helper.close();
  }
}

async function factsOf(
  input: SuspendInput,
  processes: readonly Traces[],
  driver: CudaDriver,
): Promise<CudaFacts> {
  const list = await driver.gpus();
  const gpus = visibleGpus(input.spec, list.gpus);
  const uses = await driver.use();
  const gpusOf = (pid: number) => new Set(uses.filter((use) => use.pid === pid).map(({ gpu }) => gpu)).size;
  const sharers = {
    processes: processes.length,
    isSpread: processes.some(({ pid }) => gpusOf(pid) > 1),
    peers: await gpuPeers(new Set(await treeOf(input.pid, procTree)), gpus, uses),
  };
  const problem = unsupported(gpus) ?? sharingRisk(sharers, list.driver, input.spec.annotations);
  if (problem) throw new CudaError(Code.failedPrecondition, `Cannot checkpoint the container: ${problem}`);
  const bytesOf = (pid: number) => uses.reduce((sum, use) => sum + (use.pid === pid ? use.bytes : 0), 0);
  const facts = {
    driver: list.driver,
    gpus: gpus.map(({ uuid, name, memoryBytes, minor }) => ({ uuid, name, memoryBytes, minor })),
    processes: processes.map(({ pid, innerPid }) => ({ pid: innerPid, bytes: bytesOf(pid) })),
  };
  refuseLack(
    facts.processes.reduce((sum, { bytes }) => sum + bytes, 0),
    await memoryLimits(input.pid),
  );
  return facts;
}

async function suspend(input: SuspendInput, pids: readonly number[], facts: CudaFacts, driver: CudaDriver) {
  const { id, runc, paused, log } = input;
  if (paused) await runc.resume(id);
  try {
    const gpuBytes = facts.processes.reduce((sum, { bytes }) => sum + bytes, 0);
    const before = await memoryOfAll(pids);
    const phases = await leaveGpu(pids, LOCK_TIMEOUT_MS, driver);
    try {
      await expectNoDevices(pids);
      expectCaptured(gpuBytes, (await memoryOfAll(pids)) - before, pids.length);
      if (paused) await runc.pause(id);
    } catch (cause) {
      await comeBack(pids, driver);
      throw cause;
    }
    log.info({ container: id, processes: pids.length, gpuBytes, ...phases }, 'GPU state is in memory');
  } catch (cause) {
    const { message, context } = describeError(cause);
    if (context['isStuck']) await giveUp(input, message);
    else if (paused) await runc.pause(id);
    throw cause;
  }
}

async function bringBack(input: SuspendInput, pids: readonly number[], helper: Helper): Promise<void> {
  const began = performance.now();
  try {
    await comeBack(pids, helper);
    input.log.info({ container: input.id, ms: Math.round(performance.now() - began) }, 'GPU state is back');
  } catch (cause) {
    await giveUp(input, describeError(cause).message);
    throw cause;
  } finally {
    helper.close();
  }
}

/** Its processes would stand still for ever. */
async function giveUp({ id, pid, log }: SuspendInput, reason: string): Promise<void> {
  log.error({ container: id, reason }, 'killing the container: its GPU state cannot be brought back');
  await killTree(pid, procTree);
}
