/** The shim by itself, called as containerd calls it, beside containerd's own, which proves the cases. */
import { bootstrapCases } from './conformance/shim/bootstrap.ts';
import { errorCases } from './conformance/shim/errors.ts';
import { eventCases } from './conformance/shim/events.ts';
import { execCases } from './conformance/shim/exec.ts';
import { hungDelete } from './conformance/shim/hung-delete.ts';
import { lifecycleCases } from './conformance/shim/lifecycle.ts';
import { withBoth } from './conformance/shim/peer.ts';
import { podCases } from './conformance/shim/pods.ts';
import { protocolCases } from './conformance/shim/protocol.ts';
import { raceCases } from './conformance/shim/races.ts';
import { resourceCases } from './conformance/shim/resources.ts';
import { stdioCases } from './conformance/shim/stdio.ts';
import { terminalCases } from './conformance/shim/terminal.ts';
import { unusedShim } from './conformance/shim/unused-shim.ts';
import { upstreamIssueCases } from './conformance/shim/upstream-issues.ts';

withBoth((name) => {
  const unusedShimCase = unusedShim(name);
  const hungDeleteCase = hungDelete(name);
  bootstrapCases(name);
  lifecycleCases(name);
  execCases(name);
  stdioCases(name);
  terminalCases(name);
  eventCases(name);
  errorCases(name);
  protocolCases(name);
  podCases(name);
  raceCases(name);
  resourceCases(name);
  upstreamIssueCases(name);
  hungDeleteCase();
  unusedShimCase();
});
