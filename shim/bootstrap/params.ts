/**
 * What containerd writes to the standard input of `start`: up to 2.2 the options as an Any or nothing, from 2.3 on
 * BootstrapParams with the options among its extensions.
 */
import { containerd, google } from '../../proto/gen/shim.js';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { AnyMessage } from '../task/options.ts';

export interface StartParams {
  options: AnyMessage | undefined;
  socketDir: string | undefined;
}

const OPTION_TYPES = ['containerd.runc.v1.Options', 'runtimeoptions.v1.Options'];

export function parseStartInput(input: Uint8Array, expected: { id: string; namespace: string }): StartParams {
  if (input.length === 0) return { options: undefined, socketDir: undefined };
  const params = attempt(() => containerd.runtime.bootstrap.v1.BootstrapParams.decode(input));
  // An Any decodes as BootstrapParams too; the names tell them apart, as in containerd's own shim.
  if (params && params.instanceId === expected.id && params.namespace === expected.namespace) {
    const values = params.extensions.flatMap(({ value }) => (value ? [value] : []));
    const options = values.find(({ type_url }) =>
      OPTION_TYPES.includes((type_url ?? '').replace(/^.*\//, '')),
    );
    return { options, socketDir: params.socketDir ?? undefined };
  }
  const any = attempt(() => google.protobuf.Any.decode(input));
  if (!any) throw new ShimError(Code.invalidArgument, 'Cannot decode the options on standard input');
  return { options: any, socketDir: undefined };
}

function attempt<Result>(decode: () => Result): Result | undefined {
  try {
    return decode();
  } catch {
    return undefined;
  }
}
