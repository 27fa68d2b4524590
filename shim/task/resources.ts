/** Resources of an Update. */
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { AnyMessage } from './options.ts';

/** As containerd registers the OCI runtime spec's types, bare or behind a host. */
const LINUX_RESOURCES = /(^|\/)opencontainers\/runtime-spec\/\d+\/LinuxResources$/;

/**
 * JSON of an OCI LinuxResources, as it came: numbers beyond 2^53 and fields that only runc knows stay what they are. Throws
 * InvalidArgument for anything else.
 */
export function decodeResources(any: AnyMessage | null | undefined): Uint8Array {
  const type = any?.type_url ?? '';
  if (!LINUX_RESOURCES.test(type))
    throw new ShimError(
      Code.invalidArgument,
      `Cannot update to resources of type "${type}"; send LinuxResources of the OCI runtime spec`,
    );
  const bytes = any?.value ?? new Uint8Array();
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw new ShimError(Code.invalidArgument, 'Cannot parse the JSON of the resources', { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ShimError(Code.invalidArgument, 'Cannot update to resources that are no JSON object');
  return bytes;
}
