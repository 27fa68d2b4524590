/** The shim by itself, called as containerd calls it, beside containerd's own, which proves the cases. */
import { describe } from 'vitest';
import { lifecycleCases } from './conformance/shim/lifecycle.ts';
import type { PeerName } from './conformance/shim/peer.ts';

describe.each<PeerName>(['stock', 'thaw'])('%s', (name) => {
  lifecycleCases(name);
});
