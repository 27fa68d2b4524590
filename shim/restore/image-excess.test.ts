import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fitCore } from '../../checkpoint/criu/fit-core.ts';
import { Magic, readMessages, writeMessages } from '../../checkpoint/criu/framing.ts';
import { ImageDir } from '../../checkpoint/criu/image-dir.ts';
import { type ImageRights, readImageRights } from '../../checkpoint/criu/image-rights.ts';
import { rightsOfCore } from '../../checkpoint/criu/task-rights.ts';
import { criu } from '../../proto/gen/criu-forge.js';
import type { OciSpec } from '../task/oci-spec.ts';
import { forgeLimits, forgeries } from './forge.test-helper.ts';
import type { Grants } from './grants.ts';
import { fittedLimits, imageExcess } from './image-excess.ts';

const fixtures = join(import.meta.dirname, '../../test/fixtures/criu-4.2');
let dir: string;

/** Of a pod for which the images of the fixture are right: a user of its own, no way to another one, and a filter. */
const spec: OciSpec = {
  process: {
    user: { uid: 1000, gid: 1000 },
    noNewPrivileges: true,
    capabilities: { bounding: ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'] },
  },
  mounts: [
    { destination: '/proc', type: 'proc' },
    { destination: '/dev', type: 'tmpfs', options: ['nosuid'] },
    { destination: '/dev/pts', type: 'devpts', options: ['nosuid', 'noexec'] },
    { destination: '/dev/shm', type: 'tmpfs', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev/mqueue', type: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/sys', type: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
    { destination: '/sys/fs/cgroup', type: 'cgroup', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
    { destination: '/etc/hosts', type: 'bind', options: ['rbind'] },
    { destination: '/etc/hostname', type: 'bind', options: ['rbind'] },
  ],
  linux: {
    seccomp: { defaultAction: 'SCMP_ACT_ERRNO' },
    namespaces: [
      { type: 'network', path: '/run/netns/pod' },
      { type: 'ipc', path: '/proc/1/ns/ipc' },
      { type: 'uts', path: '/proc/1/ns/uts' },
      { type: 'pid' },
      { type: 'mount' },
    ],
    maskedPaths: ['/proc/acpi', '/proc/keys', '/proc/timer_list', '/sys/firmware', '/proc/asound'],
    readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys'],
  },
};
const grants: Grants = {
  spec,
  hardLimits: Array.from({ length: 16 }, () => 1_000_000n),
  oomScoreAdj: 900,
  loginUid: 0xffff_ffff,
  nice: 0,
  ownLabel: undefined,
  // This kernel has no sound.
  hiddenPaths: new Set([
    ...(spec.linux?.maskedPaths ?? []).filter((path) => path !== '/proc/asound'),
    ...(spec.linux?.readonlyPaths ?? []),
  ]),
  resolve: (path) => path,
};

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'forged-'));
  await cp(fixtures, dir, { recursive: true });
  const netns = criu.NetNamespace.encode({ extKey: 'extRootNetNS' }).finish();
  await writeFile(join(dir, 'netns-10.img'), writeMessages(Magic.netns, [netns]));
  const name = 'core-1.img';
  await using images = await ImageDir.open(dir);
  const [message] = await images.messages(name, Magic.core);
  const core = criu.Core.decode(message ?? Buffer.alloc(0));
  const ids = {
    uid: 1000,
    euid: 1000,
    suid: 1000,
    fsuid: 1000,
    gid: 1000,
    egid: 1000,
    sgid: 1000,
    fsgid: 1000,
  };
  Object.assign(core.threadCore?.creds ?? {}, { ...ids, capPrm: [0, 0], capEff: [0, 0] });
  Object.assign(core.threadCore ?? {}, { seccompMode: 2 });
  await writeFile(join(dir, name), writeMessages(Magic.core, [criu.Core.encode(core).finish()]));
});
afterEach(() => rm(dir, { recursive: true }));

const excess = async (change: Partial<OciSpec> = {}) =>
  imageExcess(await readImageRights(dir), { ...grants, spec: { ...spec, ...change } });

describe('images that ask for', () => {
  it('what the pod grants are taken', async () => {
    expect(await excess()).toEqual([]);
  });

  it.each(forgeries.map(({ what, ...forgery }) => [what, forgery] as const))(
    '%s are refused',
    async (_, { forge, reason }) => {
      await forge(dir);
      const said = await excess().then(
        (found) => found.join('; '),
        (error: Error) => error.message,
      );
      expect(said).toMatch(reason);
    },
  );

  it('higher limits and a lower oom_score_adj get those of the pod', async () => {
    await forgeLimits(dir);
    const rights: ImageRights = await readImageRights(dir);
    expect(imageExcess(rights, grants)).toEqual([]);
    const fitted = fittedLimits(rights.processes, grants).get(1);
    await using images = await ImageDir.open(dir);
    const bytes = fitCore(await images.read('core-1.img'), 'core-1.img', fitted ?? {});
    const { process, task } = rightsOfCore(1, bytes, 'core-1.img');
    expect(process?.oomScoreAdj).toBe(900);
    expect(process?.rlimits).toEqual(
      Array.from({ length: 16 }, () => ({ soft: 1_000_000n, hard: 1_000_000n })),
    );
    // Nothing else is another one.
    expect(task).toEqual(rights.tasks[0]);
  });

  it('a writable root where the pod has it read-only, and a volume that it has read-only, are refused', async () => {
    expect(await excess({ root: { readonly: true } })).toEqual([
      'the root file system is writable, the pod has it read-only',
    ]);
    const readOnly = spec.mounts?.map((mount) =>
      mount.destination === '/etc/hosts' ? { ...mount, options: ['rbind', 'ro'] } : mount,
    );
    expect(await excess({ mounts: readOnly ?? [] })).toEqual([
      "the mount at /etc/hosts is not ro, the pod's is",
    ]);
  });

  it('a namespace of the pod’s, where it has one of its own, are refused', async () => {
    const own = spec.linux?.namespaces?.map(({ type }) => ({ type })) ?? [];
    expect(await excess({ linux: { ...spec.linux, namespaces: own } })).toEqual([
      'the checkpoint asks for the network namespace "extRootNetNS", the pod gives "a new one"',
    ]);
  });
});

describe('fitted images', () => {
  it('keep every byte that is not fitted', async () => {
    await using images = await ImageDir.open(fixtures);
    const bytes = await images.read('core-1.img');
    const again = fitCore(fitCore(bytes, 'c', { oomScoreAdj: -5 }), 'c', { oomScoreAdj: 0 });
    const sorted = (image: Buffer) => {
      const [message] = readMessages(image, Magic.core, 'c');
      return [...(message ?? [])].sort((a, b) => a - b);
    };
    expect(sorted(again)).toEqual(sorted(bytes));
  });

  it('a task is given the number of its last filter', async () => {
    await using images = await ImageDir.open(fixtures);
    const bytes = fitCore(await images.read('core-1.img'), 'c', { seccompFilter: 3, oomScoreAdj: 7 });
    const { task, process } = rightsOfCore(1, bytes, 'c');
    expect(task).toMatchObject({ seccompMode: 2, seccompFilter: 3 });
    expect(process?.oomScoreAdj).toBe(7);
  });

  it('a process that raised its own oom_score_adj keeps it', () => {
    const process = (pid: number, oomScoreAdj: number | undefined) => ({
      pid,
      rlimits: [],
      oomScoreAdj,
      loginUid: undefined,
    });
    const fitted = fittedLimits(
      [process(1, 500), process(2, 500), process(3, 950), process(4, 600), process(5, undefined)],
      {
        ...grants,
        hardLimits: [],
      },
    );
    expect([...fitted].map(([pid, { oomScoreAdj }]) => [pid, oomScoreAdj])).toEqual([
      [1, 900],
      [2, 900],
      [4, 900],
      [5, 900],
    ]);
  });
});
