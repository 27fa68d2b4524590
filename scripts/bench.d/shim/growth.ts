/** Whether a shim grows with the containers that it has seen. */
import { Code } from '../../../proto/status.ts';
import { sleep } from '../../../test/lib/index.ts';
import type { Side } from '../alternate.ts';
import { BenchError } from '../error.ts';
import type { Metric } from '../report.ts';
import type { Bed } from './bed.ts';
import type { Lane } from './lane.ts';
import { peerName } from './peers.ts';
import { descriptorsOf, family, memoryOf, nodeProcesses, parentOf } from './proc.ts';

export interface GrowthOptions {
  containers: number;
  /** Before the first and the last look at the shim; a third of it before the one between. */
  idleMs: number;
  /** Also looks at the stock shim, which takes as long again. */
  peerToo: boolean;
}

interface Pod {
  side: Side;
  shim: number;
  stays: Lane;
  container: Lane;
}

interface Size {
  descriptors: number;
  /** Private memory in bytes. */
  memory: number;
}

/**
 * A pod whose first container stays, so that its shim does; then containers in it, one after another. The shim is
 * looked at before the first, after a tenth of them, when it has run everything that it ever runs, and after the last.
 */
export async function measureGrowth(bed: Bed, options: GrowthOptions): Promise<Metric[]> {
  const sides: Side[] = options.peerToo ? ['ours', 'peer'] : ['ours'];
  const pods: Pod[] = [];
  for (const side of sides) pods.push(await startPod(bed, side));
  const beside: Lane[] = [];
  for (const side of sides) beside.push(await startNeighbour(bed, side));
  const look = async (idleMs: number) => {
    await sleep(idleMs);
    return pods.map(sizeOf);
  };
  const work = async (count: number) => {
    for (let i = 0; i < count; i++) for (const { container } of pods) await container.cycle();
  };
  const warmUp = Math.ceil(options.containers / 10);
  const before = await look(options.idleMs);
  await work(warmUp);
  const warm = await look(options.idleMs / 3);
  await work(options.containers - warmUp);
  const after = await look(options.idleMs);
  for (const stays of [...pods.map((pod) => pod.stays), ...beside]) await stays.down();
  return pods.flatMap(({ side }, i) => growth(side, warmUp, before[i], warm[i], after[i]));
}

async function startPod(bed: Bed, side: Side): Promise<Pod> {
  const stays = await bed.lane(side, 'growth-stays', ['sleep', '100000'], { pod: 'growth' });
  const container = await bed.lane(side, 'growth', ['true'], { pod: 'growth' });
  // runc has gone: what it started belongs to the subreaper above it, the shim.
  const shim = parentOf(await stays.up());
  if (shim === 1) throw new BenchError(Code.failedPrecondition, `${stays.id} has no shim for a parent`);
  return { side, shim, stays, container };
}

/**
 * A second pod, which has run a container too: as on any node, program text has more users than the shim that is looked
 * at. Alone it would count as private, and cease to when some other program maps the same file.
 */
async function startNeighbour(bed: Bed, side: Side): Promise<Lane> {
  const stays = await bed.lane(side, 'beside-stays', ['sleep', '100000'], { pod: 'beside' });
  const container = await bed.lane(side, 'beside', ['true'], { pod: 'beside' });
  await stays.up();
  await container.cycle();
  return stays;
}

function sizeOf({ shim }: Pod): Size {
  const pids = family(shim, nodeProcesses());
  return { descriptors: descriptorsOf(pids), memory: memoryOf(pids).privateBytes };
}

/** "ours" is after and "peer" is before; only our own shim's are compared by others. */
function growth(side: Side, warmUp: number, before?: Size, warm?: Size, after?: Size): Metric[] {
  if (before === undefined || warm === undefined || after === undefined)
    throw new BenchError(Code.internal, 'A look at a shim is missing');
  const who = side === 'ours' ? '' : ` ${peerName}`;
  const base = { peerName: 'before', ...(side === 'ours' ? {} : { aside: true }) };
  const memory = (from: Size) => ({ unit: 'MB', ours: [after.memory / 1e6], peer: [from.memory / 1e6] });
  return [
    {
      ...base,
      name: `fds_after_1000${who}`,
      unit: 'fds',
      ours: [after.descriptors],
      peer: [before.descriptors],
    },
    { ...base, name: `memory_after_1000${who}`, ...memory(before) },
    { name: `memory_after_1000${who}`, ...memory(warm), peerName: `after ${warmUp}`, aside: true },
  ];
}
