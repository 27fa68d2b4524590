/** What is left of containers when containerd or their shim is killed, beside containerd's own shim. */
import { withBoth } from './conformance/shim/peer.ts';
import { recoveryCases } from './conformance/shim/recovery.ts';

withBoth(recoveryCases);
