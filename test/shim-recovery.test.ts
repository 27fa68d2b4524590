/** What is left of containers when containerd or their shim is killed, beside containerd's own shim. */
import { describe } from 'vitest';
import { retriesOf } from './conformance/shim/peer.ts';
import { recoveryCases } from './conformance/shim/recovery.ts';

for (const name of ['stock', 'thaw'] as const)
  describe(name, retriesOf(name), () => {
    recoveryCases(name);
  });
