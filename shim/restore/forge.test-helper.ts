/** Images of a real dump, changed as somebody would who wants more than his pod has: one change at a time. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Reader, Writer } from 'protobufjs/minimal.js';
import { fitCore } from '../../checkpoint/criu/fit-core.ts';
import { Magic, readMessages, writeMessages } from '../../checkpoint/criu/framing.ts';
import { criu } from '../../proto/gen/criu-forge.js';
import { capabilityMask } from './capabilities.ts';
import { UNLIMITED } from './grants.ts';

interface Codec<T> {
  decode(bytes: Uint8Array): T;
  encode(message: T): { finish(): Uint8Array };
}

export interface Forgery {
  what: string;
  forge(dir: string): Promise<void>;
  /** What the refusal says. */
  reason: RegExp;
}

const root = 'core-1.img';

/** Everything but limits, oom_score_adj and seccomp, which are fitted. */
export const forgeries: readonly Forgery[] = [
  credentials('user 0', { euid: 0 }, /runs as user 0/),
  credentials('another group', { egid: 7 }, /is in group 7/),
  credentials('an additional group', { groups: [42] }, /is in group 42/),
  credentials('CAP_SYS_ADMIN', { capPrm: words('SYS_ADMIN') }, /CAP_SYS_ADMIN in its permitted set/),
  credentials(
    'an effective capability',
    { capEff: words('SYS_ADMIN') },
    /CAP_SYS_ADMIN in its effective set/,
  ),
  credentials('a bounding set', { capBnd: words('SYS_PTRACE') }, /CAP_SYS_PTRACE in its bounding set/),
  credentials('an inheritable capability', { capInh: words('MKNOD') }, /CAP_MKNOD in its inheritable set/),
  credentials('an ambient capability', { capAmb: words('SYS_ADMIN') }, /CAP_SYS_ADMIN in its ambient set/),
  credentials('no_new_privs off', { noNewPrivs: 0 }, /may gain privileges/),
  credentials('secure bits', { secbits: 0x10 }, /has secure bits 16/),
  credentials('a label', { lsmProfile: 'unconfined_t' }, /has the label unconfined_t/),
  credentials('a label of sockets', { lsmSockcreate: 'x' }, /gives its sockets the label x/),
  core('no credentials', (core) => delete core.threadCore?.creds, /names no credentials/),
  core(
    'seccomp off in an older form',
    (core) => Object.assign(core.tc ?? {}, { oldSeccompMode: 0 }),
    /seccomp/,
  ),
  core(
    'a real-time priority',
    (core) => Object.assign(core.threadCore ?? {}, { schedPolicy: 1 }),
    /real-time/,
  ),
  core('a nice value', (core) => Object.assign(core.threadCore ?? {}, { schedNice: -20 }), /nice value -20/),
  core('a login user', (core) => Object.assign(core.tc ?? {}, { loginuid: 1000 }), /login user 1000/),
  ...(['pid', 'net', 'ipc', 'uts', 'mnt'] as const).map(nodeNamespace),
  {
    what: 'a user namespace of its own',
    forge: (dir) =>
      edit(dir, 'ids-1.img', Magic.ids, criu.KernelIds, (ids) => Object.assign(ids, { userNsId: 99 })),
    reason: /has a user namespace of its own/,
  },
  {
    what: 'a map of user ids',
    forge: (dir) => writeFile(join(dir, 'userns-7.img'), ''),
    reason: /"userns-7.img" .*a container has nothing that belongs there/,
  },
  {
    what: 'a task in another namespace',
    async forge(dir) {
      const bytes = await readFile(join(dir, 'ids-1.img'));
      const [message] = readMessages(bytes, Magic.ids, 'ids');
      const ids = criu.KernelIds.decode(message ?? Buffer.alloc(0));
      Object.assign(ids, { netNsId: 99 });
      await writeFile(
        join(dir, 'ids-2.img'),
        writeMessages(Magic.ids, [criu.KernelIds.encode(ids).finish()]),
      );
    },
    reason: /process 2 has another network namespace/,
  },
  {
    what: 'another network namespace by key',
    forge: (dir) =>
      edit(dir, 'netns', Magic.netns, criu.NetNamespace, (netns) =>
        Object.assign(netns, { extKey: 'extRootPidNS' }),
      ),
    reason: /asks for the network namespace "extRootPidNS"/,
  },
  mount(
    'a key to a path of the node',
    (made) => Object.assign(made, { extKey: '/etc/shadow' }),
    /asked for as "\/etc\/shadow"/,
  ),
  mount(
    'the older form of such a key',
    (made) => Object.assign(made, { extMount: true, root: '/etc/shadow' }),
    /asked for as "\/etc\/shadow"/,
  ),
  mount(
    'a file system on a disk',
    (made) => Object.assign(made, { fstype: 16, source: '/dev/sda1' }),
    /of a kind that no pod has/,
  ),
  mount(
    'an overlay of any directories',
    (made) => Object.assign(made, { fstype: 17, options: 'lowerdir=/' }),
    /is an overlay/,
  ),
  mount('another proc', (made) => Object.assign(made, { fstype: 1 }), /\(proc\) is not one of the pod's/),
  mount(
    'a bind of proc',
    (made) => Object.assign(made, { fstype: 1, root: '/kcore', mountpoint: './proc/bus' }),
    /not one of the pod's/,
  ),
  mount(
    'a mount above another',
    (made) => Object.assign(made, { fstype: 5, mountpoint: './dev' }),
    /more than one mount is at \/dev/,
  ),
  mount('a mount of a plug-in', (made) => Object.assign(made, { withPlugin: true }), /needs a plug-in/),
  mounts(
    'a masked path bared',
    (all) => all.filter((one) => !isAt(one, '/proc/keys')),
    /nothing hides \/proc\/keys/,
  ),
  mounts(
    'a path made writable',
    (all) => all.filter((one) => !isAt(one, '/proc/sys')),
    /\/proc\/sys is writable/,
  ),
  mounts(
    'a file system made writable',
    (all) =>
      all.map((one) => (isAt(one, '/sys') ? criu.Mount.create({ ...one, flags: 0, sbFlags: 0 }) : one)),
    /the mount at \/sys is not ro/,
  ),
  {
    what: 'a plug-in',
    forge: (dir) =>
      edit(dir, 'inventory.img', Magic.inventory, criu.Inventory, (inventory) =>
        Object.assign(inventory, { plugins: { plugins: ['amdgpu_plugin'] } }),
      ),
    reason: /CRIU's plug-in "amdgpu_plugin"/,
  },
  {
    what: 'a cgroup that is not below its own',
    forge: (dir) => writeFile(join(dir, 'cgroup.img'), cgroups({ path: '/', dirName: 'container' })),
    reason: /the cgroup "\/"/,
  },
  {
    what: 'a cgroup above its own',
    forge: (dir) =>
      writeFile(join(dir, 'cgroup.img'), cgroups({ path: '/container/../../other', dirName: 'container' })),
    reason: /the cgroup "\/container\/\.\.\/\.\.\/other"/,
  },
  {
    what: 'an unlinked device',
    forge: (dir) =>
      writeFile(
        join(dir, 'ghost-file-1.img'),
        writeMessages(Magic.ghostFile, [criu.GhostFile.encode({ uid: 0, gid: 0, mode: 0o060660 }).finish()]),
      ),
    reason: /"ghost-file-1.img" makes a device/,
  },
  file('a raw socket', { type: 4, isk: { id: 9, ino: 9, family: 2, type: 3 } }, /raw socket/),
  file('a packet socket', { type: 10 }, /packet socket/),
  file('a tun device', { type: 15 }, /tun device/),
  file('a BPF map', { type: 19 }, /BPF map/),
  file('a file of a plug-in', { type: 16 }, /needs a plug-in/),
  {
    what: 'descriptors of runc',
    forge: (dir) =>
      writeFile(join(dir, 'descriptors.json'), '["/dev/null","pipe:[1]","pipe:[2]","pipe:[3]"]'),
    reason: /4 descriptors of runc/,
  },
];

/** Limits beyond any pod's. */
export async function forgeLimits(dir: string): Promise<void> {
  const path = join(dir, root);
  const rlimits = Array.from({ length: 16 }, () => ({ soft: UNLIMITED, hard: UNLIMITED }));
  await writeFile(path, fitCore(await readFile(path), root, { rlimits, oomScoreAdj: -1000 }));
}

/** Fields of Core and ThreadCore in proto/criu/rights.proto. */
const Field = { threadCore: 5, creds: 10, seccompMode: 11, seccompFilter: 12 } as const;

/** All processes as if another user had started them, without capabilities. */
export function forgeUser(dir: string, id: number): Promise<void> {
  const ids = { uid: id, euid: id, suid: id, fsuid: id, gid: id, egid: id, sgid: id, fsgid: id };
  const none = { capPrm: [0, 0], capEff: [0, 0], capInh: [0, 0] };
  const creds = (bytes: Uint8Array) =>
    criu.Creds.encode({ ...criu.Creds.decode(bytes), ...ids, ...none, groups: [] }).finish();
  return rewriteCores(dir, (thread) =>
    rewrite(thread, (field, bytes) => (field === Field.creds ? creds(bytes) : undefined)),
  );
}

/** No filter for any process. */
export function forgeNoFilter(dir: string): Promise<void> {
  const gone = new Set<number>([Field.seccompMode, Field.seccompFilter]);
  return rewriteCores(dir, (thread) => rewrite(thread, (field) => (gone.has(field) ? null : undefined)));
}

/** With all that is not known here of a task, so that CRIU takes it. */
async function rewriteCores(dir: string, change: (threadCore: Uint8Array) => Uint8Array): Promise<void> {
  for (const name of (await readdir(dir)).filter((one) => /^core-\d+\.img$/.test(one))) {
    const [core = Buffer.alloc(0)] = readMessages(await readFile(join(dir, name)), Magic.core, name);
    const changed = rewrite(core, (field, bytes) => (field === Field.threadCore ? change(bytes) : undefined));
    await writeFile(join(dir, name), writeMessages(Magic.core, [changed]));
  }
}

/** `change`: other content of a field that is a message; null takes a field away, undefined leaves it. */
function rewrite(
  message: Uint8Array,
  change: (field: number, bytes: Uint8Array) => Uint8Array | null | undefined,
): Uint8Array {
  const reader = Reader.create(message);
  const writer = Writer.create();
  const parts: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const begin = reader.pos;
    const tag = reader.uint32();
    const isMessage = (tag & 7) === 2;
    const bytes = isMessage ? reader.bytes() : new Uint8Array();
    if (!isMessage) reader.skipType(tag & 7);
    const other = change(tag >>> 3, bytes);
    if (other === undefined) parts.push(message.subarray(begin, reader.pos));
    else if (other !== null) parts.push(writer.uint32(tag).bytes(other).finish());
  }
  return Buffer.concat(parts);
}

/** Filters that allow everything, in the place of those that the tasks had. */
export async function forgeFilters(dir: string): Promise<void> {
  const allow = Buffer.alloc(8);
  allow.writeUInt16LE(0x06);
  allow.writeUInt32LE(0x7fff_0000, 4);
  await edit(dir, 'seccomp.img', Magic.seccomp, criu.SeccompFilters, ({ seccompFilters }) => {
    for (const filter of seccompFilters ?? []) Object.assign(filter, { filter: allow });
  });
}

function words(capability: string): number[] {
  const mask = capabilityMask([capability]);
  return [Number(mask & 0xffff_ffffn), Number(mask >> 32n)];
}

function credentials(what: string, change: Partial<criu.ICreds>, reason: RegExp): Forgery {
  return core(what, ({ threadCore }) => Object.assign(threadCore?.creds ?? {}, change), reason);
}

function core(what: string, change: (core: criu.Core) => unknown, reason: RegExp): Forgery {
  return { what, forge: (dir) => edit(dir, root, Magic.core, criu.Core, change), reason };
}

function nodeNamespace(name: 'pid' | 'net' | 'ipc' | 'uts' | 'mnt'): Forgery {
  return {
    what: `the node's ${name} namespace`,
    async forge(dir) {
      const field = `${name}NsId` as const;
      const [message] = readMessages(
        await readFile(join(dir, 'inventory.img')),
        Magic.inventory,
        'inventory',
      );
      const outside = criu.Inventory.decode(message ?? Buffer.alloc(0)).rootIds?.[field];
      await edit(dir, 'ids-1.img', Magic.ids, criu.KernelIds, (ids) =>
        Object.assign(ids, { [field]: outside }),
      );
    },
    reason: /has the node's \w+ namespace, the pod has its own/,
  };
}

/** One mount more, below the root. */
function mount(what: string, change: (mount: criu.Mount) => unknown, reason: RegExp): Forgery {
  const add = (all: criu.Mount[]) => {
    const base = all.find(({ mountpoint }) => /^\.?\/?$/.test(mountpoint));
    const mntId = 9999;
    const added = criu.Mount.create({
      fstype: 5,
      mntId,
      rootDev: 1,
      parentMntId: base?.mntId ?? 0,
      flags: 1,
      sbFlags: 0,
      root: '/',
      mountpoint: './mnt',
      source: 'x',
      options: '',
    });
    change(added);
    return [...all, added];
  };
  return mounts(what, add, reason);
}

function mounts(what: string, change: (all: criu.Mount[]) => criu.Mount[], reason: RegExp): Forgery {
  return {
    what,
    async forge(dir) {
      const name = (await readdir(dir)).find((one) => /^mountpoints-\d+\.img$/.test(one)) ?? '';
      const all = readMessages(await readFile(join(dir, name)), Magic.mountpoints, name);
      const changed = change(all.map((message) => criu.Mount.decode(message)));
      const messages = changed.map((message) => criu.Mount.encode(message).finish());
      await writeFile(join(dir, name), writeMessages(Magic.mountpoints, messages));
    },
    reason,
  };
}

/** CRIU writes a dot before the path. */
function isAt({ mountpoint }: criu.Mount, path: string): boolean {
  return mountpoint.replace(/^\./, '') === path;
}

/** One open file more. */
function file(what: string, entry: Omit<criu.IOpenFile, 'id'>, reason: RegExp): Forgery {
  return {
    what,
    async forge(dir) {
      const path = join(dir, 'files.img');
      const added = criu.OpenFile.encode({ ...entry, id: 9999 }).finish();
      const all = readMessages(await readFile(path), Magic.files, 'files');
      await writeFile(path, writeMessages(Magic.files, [...all, added]));
    },
    reason,
  };
}

function cgroups({ path, dirName }: { path: string; dirName: string }): Buffer {
  const message = {
    sets: [
      { id: 1, ctls: [{ name: 'cpu', path: '/container' }] },
      { id: 2, ctls: [{ name: 'cpu', path }] },
    ],
    controllers: [{ cnames: ['cpu'], dirs: [{ dirName }] }],
  };
  return writeMessages(Magic.cgroup, [criu.Cgroups.encode(message).finish()]);
}

/** `name`: of the image, or how it begins. */
async function edit<T>(
  dir: string,
  name: string,
  magic: Magic,
  codec: Codec<T>,
  change: (message: T) => unknown,
): Promise<void> {
  const found = (await readdir(dir)).find((one) => one === name || one.startsWith(`${name}-`)) ?? name;
  const path = join(dir, found);
  const [first = Buffer.alloc(0), ...rest] = readMessages(await readFile(path), magic, found);
  const message = codec.decode(first);
  change(message);
  await writeFile(path, writeMessages(magic, [codec.encode(message).finish(), ...rest]));
}
