/** What statistics need to know of the machine. */
import { readdir } from 'node:fs/promises';

export interface Machine {
  /** As the kernel writes them in file names: "2MB". */
  hugePageSizes: readonly string[];
  /** Device files of block devices by "major:minor". */
  devices: ReadonlyMap<string, string>;
}

const HUGE_PAGES = '/sys/kernel/mm/hugepages';
const UNITS = ['KB', 'MB', 'GB'];

export async function hugePageSizes(): Promise<string[]> {
  const names = await readdir(HUGE_PAGES).catch((error: NodeJS.ErrnoException) => {
    // A kernel without huge pages.
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return names.flatMap((name) => hugePageSize(name) ?? []);
}

/** From "hugepages-2048kB" to "2MB". */
export function hugePageSize(name: string): string | undefined {
  const kilobytes = /^hugepages-(\d+)kB$/.exec(name)?.[1];
  if (kilobytes === undefined) return undefined;
  let size = Number(kilobytes);
  let unit = 0;
  for (; size >= 1024 && unit < UNITS.length - 1; unit += 1) size /= 1024;
  return `${size}${UNITS[unit]}`;
}

/** From /proc/partitions: two lines of heading, then major, minor, blocks and name. The first of two names counts. */
export function blockDevices(partitions: string): Map<string, string> {
  const devices = new Map<string, string>();
  for (const line of partitions.split('\n').slice(2)) {
    const [major, minor, , name] = line.trim().split(/\s+/);
    const key = `${major}:${minor}`;
    if (name !== undefined && !devices.has(key)) devices.set(key, `/dev/${name}`);
  }
  return devices;
}
