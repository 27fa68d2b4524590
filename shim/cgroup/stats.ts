/** From control files to the message that Stats answers with. Loaded by the first Stats call. */
import { join } from 'node:path';
import type { Addon } from '../../native/index.ts';
import { io } from '../../proto/gen/cgroups.js';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { CgroupPlace } from './locate.ts';
import { blockDevices, hugePageSizes } from './machine.ts';
import { v1Files, v1Metrics } from './v1-metrics.ts';
import { v2Files, v2Metrics } from './v2-metrics.ts';

export type StatsCalls = Pick<Addon, 'readFiles'>;

/** Fields of a google.protobuf.Any. */
export interface EncodedStats {
  type_url: string;
  value: Uint8Array;
}

const PARTITIONS = '/proc/partitions';
let ownHugePages: Promise<string[]> | undefined;

/** NotFound if the cgroup is gone. A file that the kernel lacks leaves its fields unset. */
export async function readStats(
  place: CgroupPlace,
  calls: StatsCalls,
  sizes: Promise<readonly string[]> = ownSizes(),
): Promise<EncodedStats> {
  const machine = { hugePageSizes: await sizes };
  const names = place.version === 'v1' ? v1Files(machine) : v2Files(machine);
  const files = names.flatMap((name) => {
    const dir = dirOf(place, name);
    return dir === undefined ? [] : [{ name, path: join(dir, name) }];
  });
  const [partitions, ...contents] = await calls.readFiles([PARTITIONS, ...files.map(({ path }) => path)]);
  const texts = new Map(
    files.flatMap(({ name }, i): [string, string][] => {
      const text = contents[i];
      return typeof text === 'string' ? [[name, text]] : [];
    }),
  );
  if (texts.size === 0) throw new ShimError(Code.notFound, 'cgroup does not exist');
  const read = (name: string) => texts.get(name);
  switch (place.version) {
    case 'v1': {
      const devices = blockDevices(typeof partitions === 'string' ? partitions : '');
      const metrics = v1Metrics(read, { ...machine, devices });
      return {
        type_url: 'io.containerd.cgroups.v1.Metrics',
        value: io.containerd.cgroups.v1.Metrics.encode(metrics).finish(),
      };
    }
    case 'v2':
      return {
        type_url: 'io.containerd.cgroups.v2.Metrics',
        value: io.containerd.cgroups.v2.Metrics.encode(v2Metrics(read, machine)).finish(),
      };
  }
}

/** Set at boot. */
function ownSizes(): Promise<string[]> {
  ownHugePages ??= hugePageSizes();
  return ownHugePages;
}

function dirOf(place: CgroupPlace, name: string): string | undefined {
  return place.version === 'v2' ? place.dir : place.dirs.get(name.slice(0, name.indexOf('.')));
}
