/** A shim that never gets a container (containerd issue 6860). It takes a minute to be sure, so it runs beside the other cases. */
import { existsSync, rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sleep, until } from '../../lib/index.ts';
import { byPeer, type PeerName, peer as peerOf } from './peer.ts';
import { alive, Rig } from './rig.ts';
import { startShim } from './shim-program.ts';
import { TaskClient } from './task-client.ts';

/** Ours gives containerd a minute to create something. */
const LIMIT_MS = 75_000;
/** Longer than a containerd takes that is still there. */
const STAYS_MS = 5_000;

/** To be called before the other cases; the function that it returns, after them. */
export function unusedShim(name: PeerName): () => void {
  let rig: Rig;
  let pid: number;
  let socket: string;
  let since: number;
  let stays: Promise<boolean>;
  beforeAll(async () => {
    rig = await Rig.start(await peerOf(name));
    const call = rig.bundle();
    const address = await startShim(call);
    const client = await TaskClient.connect(address.path, rig.service(address), call.id);
    socket = address.path;
    pid = (await client.connect()).shimPid;
    since = performance.now();
    stays = sleep(STAYS_MS).then(() => alive(pid));
    // As when containerd is killed before it sends Create.
    client.close();
    await rig.events.stop();
  });
  afterAll(async () => {
    if (alive(pid)) {
      process.kill(pid, 'SIGKILL');
      rmSync(socket, { force: true });
    }
    await rig.close();
  });
  return () =>
    describe('upstream issue', () => {
      it('6860: a shim whose containerd died before it created anything does not stay for ever', {
        timeout: LIMIT_MS + 15_000,
      }, async () => {
        const ends = byPeer(rig.peer, {
          why: 'containerd’s own waits for a Shutdown: 1.6 never sends it, later ones do when they are back',
          stock17: false,
          stock2: false,
          thaw: true,
        });
        expect(await stays).toBe(true);
        if (ends) {
          await until('it to end by itself', () => !alive(pid), LIMIT_MS - (performance.now() - since));
          expect(existsSync(socket)).toBe(false);
        } else expect(alive(pid)).toBe(true);
      });
    });
}
