/** Statistics of cgroup v1. Source of the files: Documentation/admin-guide/cgroup-v1 of the kernel. Pure. */
import type { io } from '../../proto/gen/cgroups.js';
import type { Machine } from './machine.ts';
import { fields, keyed, lines, rdmaEntries, uint64, type WireUint64 } from './values.ts';

type Metrics = io.containerd.cgroups.v1.Metrics.$Properties;
type BlkIOEntry = io.containerd.cgroups.v1.BlkIOEntry.$Properties;
/** Text of a control file; undefined if there is none. */
export type ReadFile = (name: string) => string | undefined;

const MEMORY_KINDS = {
  usage: 'memory',
  swap: 'memory.memsw',
  kernel: 'memory.kmem',
  kernelTcp: 'memory.kmem.tcp',
};
const MEMORY_VALUES = ['limit_in_bytes', 'usage_in_bytes', 'max_usage_in_bytes', 'failcnt'];
const HUGETLB_VALUES = ['usage_in_bytes', 'max_usage_in_bytes', 'failcnt'];
/** Of the CFQ scheduler, which is gone since Linux 5.0. */
const CFQ_FILES = {
  ioServiceBytesRecursive: 'blkio.io_service_bytes_recursive',
  ioServicedRecursive: 'blkio.io_serviced_recursive',
  ioQueuedRecursive: 'blkio.io_queued_recursive',
  ioServiceTimeRecursive: 'blkio.io_service_time_recursive',
  ioWaitTimeRecursive: 'blkio.io_wait_time_recursive',
  ioMergedRecursive: 'blkio.io_merged_recursive',
  ioTimeRecursive: 'blkio.time_recursive',
  sectorsRecursive: 'blkio.sectors_recursive',
};
const THROTTLE_FILES = {
  ioServiceBytesRecursive: 'blkio.throttle.io_service_bytes',
  ioServicedRecursive: 'blkio.throttle.io_serviced',
};
const MEMORY_STAT = {
  cache: 'cache',
  rss: 'rss',
  rssHuge: 'rss_huge',
  mappedFile: 'mapped_file',
  dirty: 'dirty',
  writeback: 'writeback',
  pgPgIn: 'pgpgin',
  pgPgOut: 'pgpgout',
  pgFault: 'pgfault',
  pgMajFault: 'pgmajfault',
  inactiveAnon: 'inactive_anon',
  activeAnon: 'active_anon',
  inactiveFile: 'inactive_file',
  activeFile: 'active_file',
  unevictable: 'unevictable',
  hierarchicalMemoryLimit: 'hierarchical_memory_limit',
  hierarchicalSwapLimit: 'hierarchical_memsw_limit',
  totalCache: 'total_cache',
  totalRss: 'total_rss',
  totalRssHuge: 'total_rss_huge',
  totalMappedFile: 'total_mapped_file',
  totalDirty: 'total_dirty',
  totalWriteback: 'total_writeback',
  totalPgPgIn: 'total_pgpgin',
  totalPgPgOut: 'total_pgpgout',
  totalPgFault: 'total_pgfault',
  totalPgMajFault: 'total_pgmajfault',
  totalInactiveAnon: 'total_inactive_anon',
  totalActiveAnon: 'total_active_anon',
  totalInactiveFile: 'total_inactive_file',
  totalActiveFile: 'total_active_file',
  totalUnevictable: 'total_unevictable',
};
/** USER_HZ, which is 100 on every architecture that containers run on. */
const NANOSECONDS_PER_TICK = 10_000_000n;

/** Control files to read; a file's controller is its name up to the first dot. */
export function v1Files({ hugePageSizes }: Pick<Machine, 'hugePageSizes'>): string[] {
  return [
    'pids.current',
    'pids.max',
    'cpu.stat',
    'cpuacct.stat',
    'cpuacct.usage',
    'cpuacct.usage_percpu',
    'memory.stat',
    'memory.oom_control',
    ...Object.values(MEMORY_KINDS).flatMap((kind) => MEMORY_VALUES.map((value) => `${kind}.${value}`)),
    ...Object.values(CFQ_FILES),
    ...Object.values(THROTTLE_FILES),
    ...hugePageSizes.flatMap((size) => HUGETLB_VALUES.map((value) => `hugetlb.${size}.${value}`)),
    'rdma.current',
    'rdma.max',
  ];
}

export function v1Metrics(read: ReadFile, { hugePageSizes, devices }: Machine): Metrics {
  const cpu = keyed(read('cpu.stat'));
  const ticks = keyed(read('cpuacct.stat'));
  return {
    hugetlb: hugePageSizes
      .filter((size) => read(`hugetlb.${size}.usage_in_bytes`) !== undefined)
      .map((pagesize) => {
        const [usage = null, max = null, failcnt = null] = HUGETLB_VALUES.map((value) =>
          uint64(read(`hugetlb.${pagesize}.${value}`)),
        );
        return { usage, max, failcnt, pagesize };
      }),
    ...when(read('pids.current'), (current) => ({
      // "max" is no number and so unset, which is 0: what containerd's own shim sends here.
      pids: { current: uint64(current), limit: uint64(read('pids.max')) },
    })),
    cpu: {
      usage: {
        total: uint64(read('cpuacct.usage')),
        kernel: nanoseconds(ticks.get('system')),
        user: nanoseconds(ticks.get('user')),
        perCpu: (read('cpuacct.usage_percpu') ?? '').split(/\s+/).flatMap((value) => uint64(value) ?? []),
      },
      throttling: fields(
        { periods: 'nr_periods', throttledPeriods: 'nr_throttled', throttledTime: 'throttled_time' },
        cpu,
      ),
    },
    ...when(read('memory.stat'), (stat) => ({ memory: memory(stat, read) })),
    ...when(read('memory.oom_control'), (control) => ({
      memoryOomControl: fields(
        { oomKillDisable: 'oom_kill_disable', underOom: 'under_oom', oomKill: 'oom_kill' },
        keyed(control),
      ),
    })),
    ...when(read('blkio.throttle.io_serviced') ?? read('blkio.io_serviced_recursive'), () => ({
      blkio: blkio(read, devices),
    })),
    ...when(read('rdma.current'), (current) => ({
      rdma: { current: rdmaEntries(current), limit: rdmaEntries(read('rdma.max')) },
    })),
  };
}

function memory(stat: string, read: ReadFile) {
  const entry = (kind: string) => {
    const [limit = null, usage = null, max = null, failcnt = null] = MEMORY_VALUES.map((value) =>
      uint64(read(`${kind}.${value}`)),
    );
    return { limit, usage, max, failcnt };
  };
  return {
    ...fields(MEMORY_STAT, keyed(stat)),
    usage: entry(MEMORY_KINDS.usage),
    swap: entry(MEMORY_KINDS.swap),
    kernel: entry(MEMORY_KINDS.kernel),
    kernelTcp: entry(MEMORY_KINDS.kernelTcp),
  };
}

/** CFQ's numbers where it schedules anything; what all schedulers count else. */
function blkio(read: ReadFile, devices: ReadonlyMap<string, string>) {
  const entries = (files: Readonly<Record<string, string>>) =>
    Object.fromEntries(
      Object.entries(files).map(([field, file]) => [field, blkioEntries(read(file), devices)]),
    ) as Record<string, BlkIOEntry[]>;
  const cfq = entries(CFQ_FILES);
  return Object.values(cfq).some((list) => list.length > 0) ? cfq : entries(THROTTLE_FILES);
}

/** Lines of "8:0 Read 4096" or "8:0 4096", and a sum over all devices without a number of one. */
function blkioEntries(text: string | undefined, devices: ReadonlyMap<string, string>): BlkIOEntry[] {
  return lines(text).flatMap((line) => {
    const [, major, minor, op = '', value] = /^(\d+):(\d+) (?:(\w+) )?(\d+)$/.exec(line) ?? [];
    if (major === undefined) return [];
    const device = devices.get(`${major}:${minor}`) ?? '';
    return [{ op, device, major: uint64(major), minor: uint64(minor), value: uint64(value) }];
  });
}

function nanoseconds(ticks: string | undefined): WireUint64 | null {
  return ticks === undefined ? null : uint64(String(BigInt(ticks) * NANOSECONDS_PER_TICK));
}

function when<Part extends object>(text: string | undefined, make: (text: string) => Part): Part | object {
  return text === undefined ? {} : make(text);
}
