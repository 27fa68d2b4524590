/** The shim by itself, called as containerd calls it, beside containerd's own, which proves the cases. */
import { describe } from 'vitest';
import { eventCases } from './conformance/shim/events.ts';
import { execCases } from './conformance/shim/exec.ts';
import { lifecycleCases } from './conformance/shim/lifecycle.ts';
import type { PeerName } from './conformance/shim/peer.ts';
import { protocolCases } from './conformance/shim/protocol.ts';
import { raceCases } from './conformance/shim/races.ts';

describe.each<PeerName>(['stock', 'thaw'])('%s', (name) => {
  lifecycleCases(name);
  execCases(name);
  eventCases(name);
  protocolCases(name);
  raceCases(name);
});
