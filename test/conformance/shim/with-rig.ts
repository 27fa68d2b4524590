import { afterEach, beforeAll, beforeEach } from 'vitest';
import { type Peer, type PeerName, peer as peerOf } from './peer.ts';
import { Rig } from './rig.ts';

/** A rig for each case of the surrounding `describe`, closed and checked for leftovers after it. */
export function withRig(name: PeerName): { readonly rig: Rig; readonly peer: Peer } {
  let peer: Peer | undefined;
  let rig: Rig | undefined;
  beforeAll(async () => {
    peer = await peerOf(name);
  });
  beforeEach(async () => {
    if (peer) rig = await Rig.start(peer);
  });
  afterEach(async () => {
    await rig?.close();
    rig = undefined;
  });
  const made = <T>(value: T | undefined): T => {
    if (value === undefined) throw new Error('A rig is there only while a case runs');
    return value;
  };
  return {
    get rig() {
      return made(rig);
    },
    get peer() {
      return made(peer);
    },
  };
}
