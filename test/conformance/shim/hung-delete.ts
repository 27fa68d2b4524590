/** A runc that hangs in Delete (containerd issue 13848). It is given half a minute, so it runs beside the other cases. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Code } from '../../../proto/status.ts';
import { until } from '../../lib/index.ts';
import { fails } from './expect.ts';
import { type PeerName, peer as peerOf } from './peer.ts';
import { processes } from './processes.ts';
import { Rig } from './rig.ts';
import { StandInRunc } from './stand-in-runc.ts';
import { runcOptions } from './task-client.ts';

/** Other cases count theirs. */
const HANGS_S = 200_000;
const LIMIT_MS = 60_000;

/** To be called before the other cases; the function that it returns, after them. */
export function hungDelete(name: PeerName): () => void {
  let rig: Rig;
  const hung = () => processes().some(({ command }) => command === `sleep ${HANGS_S}`);
  beforeAll(async () => {
    rig = await Rig.start(await peerOf(name));
    const runc = new StandInRunc(rig.work, 'delete', HANGS_S);
    const task = await rig.run({
      args: ['true'],
      create: { options: runcOptions({ binaryName: runc.path }) },
    });
    await task.client.wait();
    runc.on();
    const deleting = fails(task.client.delete('', 1000), Code.deadlineExceeded);
    await until('runc to hang', hung);
    await deleting;
    runc.off();
  });
  afterAll(() => rig.close());
  return () =>
    describe('upstream issue', () => {
      it('13848: a Delete that hangs ends', { timeout: LIMIT_MS + 15_000 }, async () => {
        await until('the hung runc to be gone', () => !hung(), LIMIT_MS);
        expect(hung()).toBe(false);
      });
    });
}
