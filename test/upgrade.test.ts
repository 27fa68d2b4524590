/** The daemon is replaced again and again while everybody calls it, and no call fails. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Code, describeError } from '../proto/status.ts';
import { daemonAt } from '../shim/restore/daemon.ts';
import { SnapshotsClient } from './conformance/snapshots-client.ts';
import { ThawDaemon } from './conformance/thaw-daemon.ts';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  image,
  type Leftovers,
  layer,
  takeStock,
  until,
} from './lib/index.ts';

const UPGRADES = 5;

let before: Leftovers;
let thaw: ThawDaemon;

beforeEach(async () => {
  before = takeStock();
});
afterEach(async () => {
  await thaw.stop();
  await assertNothingLeft(before);
});

/** Calls without a pause until it is told to stop; what each of them did is counted. */
class Caller {
  readonly failures: string[] = [];
  calls = 0;
  #stopped = false;
  readonly #ended: Promise<void>;

  constructor(call: (n: number) => Promise<void>) {
    this.#ended = this.#run(call);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#ended;
  }

  async #run(call: (n: number) => Promise<void>): Promise<void> {
    while (!this.#stopped) {
      try {
        await call(this.calls);
      } catch (error) {
        this.failures.push(describeError(error).message);
      }
      this.calls += 1;
    }
  }
}

/** containerd removes what nobody holds. */
const HELD = { 'containerd.io/gc.root': 'test' };

/** The life of a snapshot: every call that changes something, in order. */
const cycle = (client: SnapshotsClient, name: string) => async (n: number) => {
  const [active, committed] = [`${name}-active-${n}`, `${name}-${n}`];
  await client.prepare(active, '', HELD);
  expect((await client.mounts(active)).length).toBe(1);
  await client.commit(committed, active, HELD);
  expect((await client.stat(committed)).kind).toBe('committed');
  await client.remove(committed);
};

it.each(['its own', "systemd's"])(
  'an upgrade on %s sockets fails no call and disturbs no container',
  async (whose) => {
    thaw = whose === 'its own' ? await ThawDaemon.start() : await ThawDaemon.startActivated();
    const containerd = await Containerd.start({ snapshotterSocket: thaw.socket, snapshotterRoot: thaw.root });
    const direct = new SnapshotsClient(thaw.socket);
    const through = new SnapshotsClient(containerd.socket, { snapshotter: 'thaw', namespace: 'default' });
    try {
      const shell = image([await layer(busybox())], { cmd: ['sleep', '1000'] });
      await containerd.importImage('test.local/app:1', shell, { snapshotter: 'thaw' });
      await containerd.ctr(['run', '-d', '--null-io', '--snapshotter', 'thaw', 'test.local/app:1', 'c']);
      const tasks = async () => (await containerd.ctr(['task', 'ls'])).stdout;
      const running = await tasks();
      expect(running).toContain('RUNNING');

      const shim = daemonAt(thaw.thawSocket);
      const missing = { namespace: 'default', containerId: 'x', lowerDirs: ['/nonexistent'] };
      // What containerd's garbage collection does not know it removes: directly there are only questions.
      const layerName = (await direct.list('kind==committed'))[0]?.name ?? '';
      const callers = [
        new Caller(cycle(through, 'one')),
        new Caller(cycle(through, 'two')),
        new Caller(async () => {
          expect((await direct.stat(layerName)).kind).toBe('committed');
        }),
        new Caller(async () => {
          await direct.list();
        }),
        new Caller(async () => {
          const answer = await shim.locate(missing).catch((error: unknown) => describeError(error));
          if ('code' in answer && answer.code === Code.unavailable) throw new Error(answer.message);
        }),
      ];
      const { ino } = statSync(thaw.socket);
      const pids = new Set([thaw.pid]);
      for (let i = 0; i < UPGRADES; i++) {
        await thaw.upgrade();
        pids.add(thaw.pid);
        // Every caller is answered by this one.
        const counts = callers.map(({ calls }) => calls);
        await until('all to be answered', () =>
          callers.every(({ calls }, at) => calls > (counts[at] ?? 0) + 1),
        );
      }
      for (const caller of callers) await caller.stop();
      expect(callers.flatMap(({ failures }) => failures)).toEqual([]);
      expect(pids.size).toBe(UPGRADES + 1);
      // The very same sockets.
      expect(statSync(thaw.socket).ino).toBe(ino);
      expect(await tasks()).toBe(running);
      expect((await through.list()).filter(({ name }) => /^(one|two)-/.test(name))).toEqual([]);
    } finally {
      direct.close();
      through.close();
      await containerd.removeContainers();
      await containerd.stop();
    }
  },
);

it('a new daemon that cannot start leaves the old one where it is', async () => {
  thaw = await ThawDaemon.start();
  const { pid } = thaw;
  const file = thaw.arguments.at(-1) ?? '';
  const good = readFileSync(file, 'utf8');
  // The sockets that are handed over are not those it wants.
  writeFileSync(file, good.replace(/^state = .*$/m, `state = "${join(thaw.root, 'elsewhere')}"`));
  process.kill(pid, 'SIGHUP');
  const refusal = await until('the refusal', () =>
    thaw.events().find(({ msg }) => msg === 'not handed over'),
  );
  expect(refusal['pid']).toBe(pid);
  expect(thaw.events().find(({ msg }) => msg === 'cannot start')?.['error']).toContain(
    'that was handed over',
  );
  const client = new SnapshotsClient(thaw.socket);
  expect(await client.list()).toEqual([]);
  writeFileSync(file, good);
  await thaw.upgrade();
  expect(thaw.pid).not.toBe(pid);
  expect(await client.list()).toEqual([]);
  client.close();
});

it('on sockets that systemd holds, calls wait for a daemon that is not there yet', async () => {
  thaw = await ThawDaemon.startActivated();
  await thaw.halt();
  expect(existsSync(thaw.socket)).toBe(true);
  const client = new SnapshotsClient(thaw.socket);
  const answers = Promise.all([client.list(), client.prepare('early', ''), thaw.checkpoints()]);
  await thaw.restart();
  expect((await answers)[1].length).toBe(1);
  await client.remove('early');
  client.close();
});
