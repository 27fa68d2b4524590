/** Which namespaces a restore gives the tasks of a dump. */
import { criu } from '../../proto/gen/criu-rights.js';
import { decodeMessage, decodeOnly, optional } from './decode.ts';
import { broken, Magic, readMessages } from './framing.ts';
import type { ImageDir } from './image-dir.ts';

export const NAMESPACES = ['pid', 'network', 'ipc', 'uts', 'mount', 'user', 'cgroup'] as const;
/** Named as in an OCI spec. */
export type Namespace = (typeof NAMESPACES)[number];
/** CRIU's numbers: only whether two are the same means something. */
export type NamespaceIds = Partial<Record<Namespace, number>>;

export interface DumpedNamespaces {
  /** Those that CRIU was in: a task with one of these stays in the one that CRIU is in. */
  outside: NamespaceIds;
  root: NamespaceIds;
  /** Of all other tasks whose image says so; one that does not shares its parent's. */
  others: readonly { pid: number; ids: NamespaceIds }[];
  /** Names of namespaces that the caller hands over, one an image; undefined where CRIU makes a new one. */
  netKeys: readonly (string | undefined)[];
  pidKeys: readonly (string | undefined)[];
}

const IDS = /^ids-(\d+)\.img$/;
const MAX_BYTES = 1 << 20;

export async function readNamespaces(images: ImageDir, names: readonly string[]): Promise<DumpedNamespaces> {
  const inventory = decodeOnly(
    criu.Inventory,
    await images.messages('inventory.img', Magic.inventory),
    'inventory.img',
  );
  if (!inventory.rootIds) throw broken('inventory.img', 'it names no namespaces');
  const root = await rootTask(images);
  const tasks: { pid: number; ids: NamespaceIds }[] = [];
  for await (const [name, bytes] of images.readAll(
    names.filter((one) => IDS.test(one)),
    MAX_BYTES,
  )) {
    const ids = decodeOnly(criu.KernelIds, readMessages(bytes, Magic.ids, name), name);
    tasks.push({ pid: Number(IDS.exec(name)?.[1]), ids: idsOf(ids) });
  }
  const own = tasks.find(({ pid }) => pid === root);
  if (!own) throw broken(`ids-${root}.img`, 'it is missing');
  return {
    outside: idsOf(inventory.rootIds),
    root: own.ids,
    others: tasks.filter(({ pid }) => pid !== root),
    netKeys: await keysOf(images, names, /^netns-\d+\.img$/, Magic.netns, criu.NetNamespace),
    pidKeys: await keysOf(images, names, /^pidns-\d+\.img$/, Magic.pidns, criu.PidNamespace),
  };
}

/** Throws unless there is one task that all others come from. */
async function rootTask(images: ImageDir): Promise<number> {
  const name = 'pstree.img';
  const tasks = (await images.messages(name, Magic.pstree)).map((message) =>
    decodeMessage(criu.PstreeItem, message, name),
  );
  const roots = tasks.filter(({ ppid }) => ppid === 0);
  if (roots.length !== 1 || !roots[0]) throw broken(name, `${roots.length} of its tasks have no parent`);
  return roots[0].pid;
}

async function keysOf(
  images: ImageDir,
  names: readonly string[],
  pattern: RegExp,
  magic: Magic,
  type: { decode(bytes: Uint8Array): { extKey: string } },
): Promise<(string | undefined)[]> {
  const keys: (string | undefined)[] = [];
  for await (const [name, bytes] of images.readAll(
    names.filter((one) => pattern.test(one)),
    MAX_BYTES,
  ))
    keys.push(decodeOnly(type, readMessages(bytes, magic, name), name).extKey || undefined);
  return keys;
}

function idsOf(ids: criu.IKernelIds): NamespaceIds {
  const fields = {
    pid: 'pidNsId',
    network: 'netNsId',
    ipc: 'ipcNsId',
    uts: 'utsNsId',
    mount: 'mntNsId',
    user: 'userNsId',
    cgroup: 'cgroupNsId',
  } as const satisfies Record<Namespace, keyof criu.IKernelIds>;
  const found: NamespaceIds = {};
  for (const namespace of NAMESPACES) {
    const id = optional(ids, fields[namespace]);
    if (id !== undefined) found[namespace] = id;
  }
  return found;
}
