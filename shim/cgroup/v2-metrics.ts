/** Statistics of cgroup v2. Source of the files: Documentation/admin-guide/cgroup-v2.rst of the kernel. Pure. */
import type { io } from '../../proto/gen/cgroups.js';
import type { Machine } from './machine.ts';
import type { ReadFile } from './v1-metrics.ts';
import { fields, keyed, limit, lines, rdmaEntries, uint64 } from './values.ts';

type Metrics = io.containerd.cgroups.v2.Metrics.$Properties;
type PSIStats = io.containerd.cgroups.v2.PSIStats.$Properties;

const CPU_STAT = {
  usageUsec: 'usage_usec',
  userUsec: 'user_usec',
  systemUsec: 'system_usec',
  nrPeriods: 'nr_periods',
  nrThrottled: 'nr_throttled',
  throttledUsec: 'throttled_usec',
  nrBursts: 'nr_bursts',
  burstUsec: 'burst_usec',
};
const MEMORY_STAT = {
  anon: 'anon',
  file: 'file',
  kernelStack: 'kernel_stack',
  slab: 'slab',
  sock: 'sock',
  shmem: 'shmem',
  fileMapped: 'file_mapped',
  fileDirty: 'file_dirty',
  fileWriteback: 'file_writeback',
  anonThp: 'anon_thp',
  inactiveAnon: 'inactive_anon',
  activeAnon: 'active_anon',
  inactiveFile: 'inactive_file',
  activeFile: 'active_file',
  unevictable: 'unevictable',
  slabReclaimable: 'slab_reclaimable',
  slabUnreclaimable: 'slab_unreclaimable',
  pgfault: 'pgfault',
  pgmajfault: 'pgmajfault',
  workingsetRefault: 'workingset_refault',
  workingsetActivate: 'workingset_activate',
  workingsetNodereclaim: 'workingset_nodereclaim',
  pgrefill: 'pgrefill',
  pgscan: 'pgscan',
  pgsteal: 'pgsteal',
  pgactivate: 'pgactivate',
  pgdeactivate: 'pgdeactivate',
  pglazyfree: 'pglazyfree',
  pglazyfreed: 'pglazyfreed',
  thpFaultAlloc: 'thp_fault_alloc',
  thpCollapseAlloc: 'thp_collapse_alloc',
  workingsetRefaultAnon: 'workingset_refault_anon',
  workingsetRefaultFile: 'workingset_refault_file',
  workingsetActivateAnon: 'workingset_activate_anon',
  workingsetActivateFile: 'workingset_activate_file',
};
const MEMORY_EVENTS = {
  low: 'low',
  high: 'high',
  max: 'max',
  oom: 'oom',
  oomKill: 'oom_kill',
  oomGroupKill: 'oom_group_kill',
};

export function v2Files({ hugePageSizes }: Pick<Machine, 'hugePageSizes'>): string[] {
  return [
    'pids.current',
    'pids.max',
    'cpu.stat',
    'cpu.pressure',
    'memory.stat',
    'memory.current',
    'memory.max',
    'memory.peak',
    'memory.swap.current',
    'memory.swap.max',
    'memory.swap.peak',
    'memory.pressure',
    'memory.events',
    'io.stat',
    'io.pressure',
    'rdma.current',
    'rdma.max',
    ...hugePageSizes.flatMap((size) =>
      ['current', 'max', 'events'].map((value) => `hugetlb.${size}.${value}`),
    ),
  ];
}

export function v2Metrics(read: ReadFile, { hugePageSizes }: Pick<Machine, 'hugePageSizes'>): Metrics {
  const events = read('memory.events');
  return {
    pids: { current: uint64(read('pids.current')), limit: limit(read('pids.max')) },
    cpu: { ...fields(CPU_STAT, keyed(read('cpu.stat'))), psi: pressure(read('cpu.pressure')) },
    memory: {
      ...fields(MEMORY_STAT, keyed(read('memory.stat'))),
      usage: uint64(read('memory.current')),
      usageLimit: limit(read('memory.max')),
      maxUsage: uint64(read('memory.peak')),
      swapUsage: uint64(read('memory.swap.current')),
      swapLimit: limit(read('memory.swap.max')),
      swapMaxUsage: uint64(read('memory.swap.peak')),
      psi: pressure(read('memory.pressure')),
    },
    memoryEvents: events === undefined ? null : fields(MEMORY_EVENTS, keyed(events)),
    io: { usage: ioEntries(read('io.stat')), psi: pressure(read('io.pressure')) },
    rdma: { current: rdmaEntries(read('rdma.current')), limit: rdmaEntries(read('rdma.max')) },
    hugetlb: hugePageSizes
      .filter((size) => read(`hugetlb.${size}.current`) !== undefined)
      .map((pagesize) => ({
        pagesize,
        current: uint64(read(`hugetlb.${pagesize}.current`)),
        max: limit(read(`hugetlb.${pagesize}.max`)),
        failcnt: uint64(keyed(read(`hugetlb.${pagesize}.events`)).get('max')),
      })),
  };
}

/** Lines of "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0"; a device that did nothing has no pairs. */
function ioEntries(text: string | undefined) {
  return lines(text).flatMap((line) => {
    const [, major, minor, rest = ''] = /^(\d+):(\d+) (.+)$/.exec(line) ?? [];
    if (major === undefined) return [];
    const values = keyed(rest.replaceAll(' ', '\n').replaceAll('=', ' '));
    const counters = { rbytes: 'rbytes', wbytes: 'wbytes', rios: 'rios', wios: 'wios' };
    return [{ major: uint64(major), minor: uint64(minor), ...fields(counters, values) }];
  });
}

/** Lines of "some avg10=0.12 avg60=0.00 avg300=0.00 total=1234". Null without PSI in the kernel. */
function pressure(text: string | undefined): PSIStats | null {
  const found = lines(text).flatMap((line) => {
    const values = /^(some|full) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)$/.exec(line);
    if (!values) return [];
    const [, kind = '', avg10, avg60, avg300, total] = values;
    const data = { avg10: Number(avg10), avg60: Number(avg60), avg300: Number(avg300), total: uint64(total) };
    return [[kind, data]];
  });
  return found.length > 0 ? Object.fromEntries(found) : null;
}
