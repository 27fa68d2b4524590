/** Throughput of reads of one large file that is all on this node: through the mount of a lazy layer, and on ext4. */
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Code } from '../../../proto/status.ts';
import { run, until } from '../../../test/lib/index.ts';
import { alternate, type Side, type Turns } from '../alternate.ts';
import { type ColdBed, handlers } from '../coldnode/bed.ts';
import { ColdPod } from '../coldnode/pod.ts';
import { BenchError } from '../error.ts';
import type { Metric } from '../report.ts';
import type { Published } from './publish.ts';
import { withRootfs } from './starts.ts';

/** Debian's fio of the machine with its libraries: the node's root has none. */
const FIO = '/thaw/build/bench/fio';
const RANDOM_BYTES = 64 << 20;
const LONG_MS = 600_000;

const patterns = {
  seq: ['--rw=read', '--bs=1M'],
  rand: ['--rw=randread', '--bs=4k', '--norandommap', '--randseed=7', `--io_size=${RANDOM_BYTES}`],
} as const;
type Pattern = keyof typeof patterns;

export async function measureWarmReads(cold: ColdBed, published: Published, turns: Turns): Promise<Metric[]> {
  const { node } = cold.bed;
  await cold.empty();
  const pod = await ColdPod.start(node, handlers.thaw, { cold: true });
  try {
    const image = published.lazy;
    const imageRef = await pod.pull(image, handlers.thaw);
    await until('every byte of the image to be on the node', () => isComplete(cold), LONG_MS);
    return await withRootfs(
      cold,
      pod,
      { image, imageRef, command: published.recipe.command },
      async (rootfs) => {
        const ours = await largestFile(rootfs);
        const peer = join(cold.dir, 'copy');
        copyFileSync(ours, peer);
        try {
          return await measure({ ours, peer }, turns);
        } finally {
          rmSync(peer);
        }
      },
    );
  } finally {
    await pod.remove();
  }
}

async function measure(files: Record<Side, string>, turns: Turns): Promise<Metric[]> {
  const metrics: Metric[] = [];
  for (const cached of [true, false])
    for (const pattern of ['seq', 'rand'] as const) {
      const rates = await alternate(turns, (side) => rate(files[side], pattern, cached));
      metrics.push({
        name: `warm_${pattern}${cached ? '' : '_dropped'}`,
        unit: 'MB/s',
        ours: rates.ours,
        peer: rates.peer,
        peerName: 'ext4',
      });
    }
  return metrics;
}

/** MB/s; with the file in the page cache, or with nothing there. */
async function rate(file: string, pattern: Pattern, cached: boolean): Promise<number> {
  if (cached) await run('sh', ['-c', 'cat "$0" | wc -c', file], { timeoutMs: LONG_MS });
  else {
    await run('sync', [], { timeoutMs: LONG_MS });
    writeFileSync('/proc/sys/vm/drop_caches', '3');
  }
  const args = ['--name=read', `--filename=${file}`, '--readonly', '--ioengine=psync', '--invalidate=0'];
  const { stdout } = await run(join(FIO, 'run'), [...args, ...patterns[pattern], '--output-format=json'], {
    timeoutMs: LONG_MS,
  });
  const { jobs } = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
    jobs: { error: number; read: { bw_bytes: number } }[];
  };
  const [job] = jobs;
  if (job?.error !== 0) throw new BenchError(Code.internal, `fio could not read ${file}`);
  return job.read.bw_bytes / 1e6;
}

async function isComplete({ bed }: ColdBed): Promise<boolean> {
  const { stdout } = await bed.node.thaw(['status', '--json']);
  const { layers } = JSON.parse(stdout) as { layers: { state: string }[] };
  return layers.length > 0 && layers.every(({ state }) => state === 'complete');
}

async function largestFile(rootfs: string): Promise<string> {
  const command = 'find "$0" -xdev -type f -printf "%s %p\\n" | sort -n | tail -n 1';
  const { stdout } = await run('sh', ['-c', command, rootfs], { timeoutMs: LONG_MS });
  return stdout.trim().replace(/^\d+ /, '');
}
