/** What a test may not leave in the node: processes, mounts, cgroups, network interfaces, files of /run. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { TestError } from './error.ts';
import { sleep } from './wait.ts';

export interface Leftovers {
  processes: Set<string>;
  mounts: Set<string>;
  cgroups: Set<string>;
  interfaces: Set<string>;
  files: Set<string>;
}

/** What other programs leave by design, once for a node and not for each container. */
const harmless = [
  /^cgroups: .*\/(default|k8s\.io|moby|kubepods|kubepods\/burstable)$/, // runc removes a container's cgroup, not its parents
  /^files: \/run\/criu\.kdat$/, // what CRIU knows of the kernel
  // Folders made by their first user; what lies in them is one container's and must go with it.
  /^files: \/run\/(netns|runc|containerd|test|lock|cni|ipcns|utsns)$/,
  /^files: \/run\/(runc|containerd\/(s|fifo|runc)|test\/[^/]+\/state\/[^/]+)(\/(default|k8s\.io|containers|sandboxes))?$/,
  /^files: \/run\/test\/[^/]+$/, // the tests' own, see runDir
  /^files: \/run\/containerd\/fifo\//, // of ctr: a client that detaches leaves its fifos
  /^files: \/run\/test\/[^/]+\/cni(\/thaw-test(\/(lock|last_reserved_ip\.\d+))?)?$/,
  /^interfaces: thaw0$/, // the bridge plug-in never removes its bridge
];

const kinds = ['processes', 'mounts', 'cgroups', 'interfaces', 'files'] as const;

/** Takes stock of the node as this process sees it. */
export function takeStock(): Leftovers {
  return {
    processes: processes(),
    mounts: new Set(lines('/proc/self/mountinfo').map((line) => line.split(' ')[4] ?? '')),
    cgroups: tree('/sys/fs/cgroup', (entry) => entry.isDirectory()),
    interfaces: new Set(
      lines('/proc/self/net/dev').flatMap((line) => /^\s*([^:|\s]+):/.exec(line)?.[1] ?? []),
    ),
    files: tree('/run', () => true),
  };
}

/**
 * Waits until the node holds nothing that it did not hold at `before`; after `ms` an error lists what there is too
 * much. `expected` names what may stay besides.
 */
export async function assertNothingLeft(
  before: Leftovers,
  ms = 5000,
  expected: RegExp[] = [],
): Promise<void> {
  const deadline = Date.now() + ms;
  const allowed = [...harmless, ...expected];
  for (;;) {
    const left = difference(before, takeStock()).filter((item) => !allowed.some((e) => e.test(item)));
    if (left.length === 0) return;
    if (Date.now() > deadline)
      throw new TestError(Code.failedPrecondition, `Left behind:\n  ${left.join('\n  ')}`);
    await sleep(50);
  }
}

/** What `after` holds and `before` does not, as `kind: item`. */
export function difference(before: Leftovers, after: Leftovers): string[] {
  return kinds.flatMap((kind) =>
    [...after[kind]].filter((item) => !before[kind].has(item)).map((item) => `${kind}: ${item}`),
  );
}

/** All processes but this one and its children, which are the test's own business. */
function processes(): Set<string> {
  const found = new Set<string>();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1];
      if (pid === String(process.pid) || parent === String(process.pid)) continue;
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      found.add(`${pid} ${command || readlinkOr(`/proc/${pid}/exe`, stat.split(' ')[1] ?? '')}`);
    } catch {
      // it has ended meanwhile
    }
  }
  return found;
}

function readlinkOr(path: string, otherwise: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return otherwise;
  }
}

function tree(root: string, keep: (entry: { isDirectory(): boolean }) => boolean): Set<string> {
  const found = new Set<string>();
  const visit = (directory: string) => {
    let entries: ReturnType<typeof readDirectory>;
    try {
      entries = readDirectory(directory);
    } catch {
      return; // it has been removed meanwhile
    }
    for (const entry of entries) {
      const path = join(directory, entry.name);
      if (keep(entry)) found.add(path);
      if (entry.isDirectory()) visit(path);
    }
  };
  visit(root);
  return found;
}

function readDirectory(directory: string) {
  return readdirSync(directory, { withFileTypes: true });
}

function lines(path: string): string[] {
  return readFileSync(path, 'utf8').split('\n');
}
