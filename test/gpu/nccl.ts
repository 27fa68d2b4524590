/** NCCL between two processes of a container, with a GPU each. */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Container, INDEPENDENT } from './container.ts';
import { failure, IMAGES, type Machine } from './machine.ts';
import { PYTHON } from './model.ts';

/** What docs/gpu.md tells engines to set. */
const DOCUMENTED = {
  NCCL_P2P_DISABLE: '1',
  NCCL_SHM_DISABLE: '1',
  NCCL_NVLS_ENABLE: '0',
  NCCL_CUMEM_ENABLE: '0',
  NCCL_CUMEM_HOST_ENABLE: '0',
  NCCL_IB_DISABLE: '1',
  NCCL_RAS_ENABLE: '0',
  TORCH_NCCL_ENABLE_MONITORING: '0',
  NCCL_SOCKET_IFNAME: 'lo',
};

const RANKS = `
import os, subprocess, sys, time
if len(sys.argv) < 2:
    ranks = [subprocess.Popen([sys.executable, __file__, str(rank)], stdin=subprocess.DEVNULL) for rank in (0, 1)]
    for rank in ranks: rank.wait()
    sys.exit(1)
rank = int(sys.argv[1])
out = open('/out' if rank == 0 else '/out-1', 'a', buffering=1)
log = os.open('/log-%d' % rank, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 1), os.dup2(log, 2)
import torch, torch.distributed as dist
torch.cuda.set_device(rank)
kept = torch.full((1 << 28,), 7, dtype=torch.uint8, device='cuda')
n, groups, grouped = 0, 0, False
while True:
    if not grouped:
        groups += 1
        dist.init_process_group('nccl', init_method='file:///group-%d' % groups, rank=rank, world_size=2)
        grouped = True
    n += 1
    value = torch.full((1 << 20,), float(n + rank), device='cuda')
    dist.all_reduce(value)
    right = value.eq(2 * n + 1).all().item() and kept.eq(7).all().item()
    out.write('answer %d %s\\n' % (n, 'right' if right else 'wrong'))
    # Both rest after the same round: one alone would wait on the GPU for the other.
    rest = torch.tensor([float(os.path.exists('/rest'))], device='cuda')
    dist.all_reduce(rest)
    if rest.item() > 0:
        if os.path.exists('/leave'):
            dist.destroy_process_group()
            grouped = False
        out.write('rests %d\\n' % n)
        while os.path.exists('/rest'): time.sleep(0.05)
    time.sleep(0.05)
`;

const WAYS = {
  /** What NCCL does by itself, and a pod that says that nothing is shared. */
  defaults: { env: {}, leave: false },
  documented: { env: DOCUMENTED, leave: false },
  /** The processes destroy their group before each checkpoint, and make a new one after it. */
  group_left: { env: DOCUMENTED, leave: true },
};

export async function nccl(machine: Machine, way: keyof typeof WAYS) {
  const { env, leave } = WAYS[way];
  const python = PYTHON.find((path) => existsSync(path)) ?? 'python3';
  const box = new Container(machine, `nccl-${way}`, [python, '/nccl.py']).say(INDEPENDENT, {
    ...env,
    NCCL_NVLS_ENABLE: '0',
    NCCL_DEBUG: 'INFO',
  });
  // As in a pod, whose network is there before: in one that CRIU makes, lo stays down.
  box.join(['network'], []);
  const path = (name: string) => join(box.bundle, 'rootfs', name);
  writeFileSync(path('nccl.py'), RANKS);
  if (leave) writeFileSync(path('leave'), '');
  const out: Record<string, string | boolean> = {};
  const rest = async () => {
    writeFileSync(path('rest'), '');
    for (const name of ['out', 'out-1'])
      for (let waited = 0; !/rests \d+\n$/.test(box.file(name)) && waited < 30_000; waited += 50)
        await sleep(50);
  };
  const wake = async () => {
    rmSync(path('rest'));
    // No program: it was killed.
    if (!existsSync(`/proc/${box.pid}/exe`)) return false;
    return (await answers(box).catch(() => '')).endsWith(' right');
  };
  try {
    await box.start();
    await rest();
    try {
      await box.dump(IMAGES, { exit: false });
    } catch (error) {
      out['checkpoint'] = failure(error);
      out['goes_on'] = await wake();
      return out;
    }
    out['goes_on'] = await wake();
    rmSync(IMAGES, { recursive: true, force: true });
    await rest();
    await box.dump(IMAGES);
    await box.restore(IMAGES);
    out['restored_goes_on'] = await wake();
    return out;
  } catch (error) {
    return { ...out, failed: failure(error) };
  } finally {
    for (const name of ['log-0', 'log-1'])
      if (!out['restored_goes_on']) process.stdout.write(`${name}: ${box.file(name).slice(-1500)}\n`);
    await box.remove();
  }
}

/** Two answers more, as the first may have been under way. */
async function answers(box: Container): Promise<string> {
  await box.goesOn();
  return box.goesOn();
}
