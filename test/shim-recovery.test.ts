/** What is left of containers when containerd or their shim is killed, beside containerd's own shim. */
import { describe } from 'vitest';
import type { PeerName } from './conformance/shim/peer.ts';
import { recoveryCases } from './conformance/shim/recovery.ts';

describe.each<PeerName>(['stock', 'thaw'])('%s', (name) => {
  recoveryCases(name);
});
