/** What else a restore makes with root's rights: cgroups, unlinked files, sockets and devices that tasks hold. */
import { criu } from '../../proto/gen/criu-rights.js';
import { decodeMessage, decodeOnly } from './decode.ts';
import { broken, Magic, readMessages } from './framing.ts';
import type { ImageDir } from './image-dir.ts';

export interface RestoredObjects {
  /** Names of CRIU plug-ins that have to be loaded. */
  plugins: readonly string[];
  /** Cgroups that a restore would not put below the one that its caller has made, and files that it would write elsewhere. */
  strayCgroups: readonly string[];
  /** Unlinked device nodes. */
  deviceFiles: readonly string[];
  /** Of open files: CRIU's enum fd_types. */
  fileTypes: ReadonlySet<number>;
  hasRawSockets: boolean;
  /** Descriptors of whoever restores that the images ask for. */
  inheritedDescriptors: number;
}

/** CRIU's enum fd_types, as far as they need a right of their own. */
export const FileType = {
  packetSocket: 10,
  fanotify: 12,
  namespace: 14,
  tun: 15,
  plugin: 16,
  bpfMap: 19,
} as const;

const SOCK_RAW = 3;
const S_IFMT = 0o170000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const MAX_BYTES = 8 << 20;
/** A file's metadata; its data follows in the same image, up to gigabytes. */
const GHOST_BYTES = 64 << 10;

export async function readObjects(images: ImageDir, names: readonly string[]): Promise<RestoredObjects> {
  const inventory = decodeOnly(
    criu.Inventory,
    await images.messages('inventory.img', Magic.inventory),
    'inventory.img',
  );
  const files = (await images.messages('files.img', Magic.files)).map((message) =>
    decodeMessage(criu.OpenFile, message, 'files.img'),
  );
  return {
    plugins: inventory.plugins?.plugins ?? [],
    strayCgroups: names.includes('cgroup.img') ? await strayCgroups(images) : [],
    deviceFiles: await deviceFiles(images, names),
    fileTypes: new Set(files.map(({ type }) => type)),
    hasRawSockets: files.some(({ isk }) => isk?.type === SOCK_RAW),
    inheritedDescriptors: names.includes('descriptors.json') ? await descriptors(images) : 0,
  };
}

/**
 * CRIU puts the new cgroup's path in the place of the old one's only where a path begins with the directory that the image
 * names for its controller; any other it takes as it is, from the root of the hierarchy. Source: criu/cgroup.c,
 * rewrite_cgsets().
 */
async function strayCgroups(images: ImageDir): Promise<string[]> {
  const name = 'cgroup.img';
  const [message] = readMessages(await images.read(name, MAX_BYTES), Magic.cgroup, name);
  if (!message) return [];
  const { sets, controllers } = decodeMessage(criu.Cgroups, message, name);
  const stray = new Set<string>();
  for (const { cnames, dirs } of controllers) {
    const members = sets.flatMap(({ ctls }) => ctls ?? []).filter((member) => cnames?.includes(member.name));
    for (const dir of dirs ?? []) {
      if (!members.some(({ path }) => isBelow(path, dir))) stray.add(dir.dirName);
      for (const path of pathsBelow(dir)) if (!isPlain(path)) stray.add(path);
    }
    for (const { path } of members)
      if (!dirs?.some((dir) => isBelow(path, dir)) || !isPlain(path)) stray.add(path);
  }
  const known = new Set(controllers.flatMap(({ cnames }) => cnames ?? []));
  for (const { name: controller, path } of sets.flatMap(({ ctls }) => ctls ?? []))
    if (!known.has(controller)) stray.add(path);
  return [...stray];
}

function pathsBelow(dir: criu.ICgroupDir): string[] {
  return [
    dir.dirName,
    ...(dir.properties ?? []).map((property) => property.name),
    ...(dir.children ?? []).flatMap(pathsBelow),
  ];
}

/** CRIU compares no more than the beginning of the path, and puts the rest of it behind the new one. */
function isBelow(path: string, { dirName }: criu.ICgroupDir): boolean {
  return `${path}/`.startsWith(dirName === '' ? '//' : `/${dirName}/`);
}

function isPlain(path: string): boolean {
  return !path.split('/').includes('..');
}

async function deviceFiles(images: ImageDir, names: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of names.filter((one) => /^ghost-file-[0-9a-f]+\.img$/.test(one))) {
    const [message] = readMessages(await images.readStart(name, GHOST_BYTES), Magic.ghostFile, name, 1);
    if (!message) throw broken(name, 'it holds no entry');
    const kind = decodeMessage(criu.GhostFile, message, name).mode & S_IFMT;
    if (kind === S_IFCHR || kind === S_IFBLK) found.push(name);
  }
  return found;
}

/** runc hands its own descriptor of that number to CRIU for each entry that names a pipe. Source: runc, libcontainer/criu_linux.go. */
async function descriptors(images: ImageDir): Promise<number> {
  const name = 'descriptors.json';
  let value: unknown;
  try {
    value = JSON.parse((await images.read(name, MAX_BYTES)).toString('utf8'));
  } catch (cause) {
    throw broken(name, 'it is no JSON', cause);
  }
  if (value === null) return 0;
  if (!Array.isArray(value) || !value.every((entry) => typeof entry === 'string'))
    throw broken(name, 'it is no list of names');
  return value.length;
}
