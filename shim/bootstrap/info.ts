/** `-info`: what this runtime is and can do, for containerd 1.7 and later. */
import { containerd } from '../../proto/gen/shim.js';
import type { Runc } from '../runc/runc.ts';

/** Type of `runc features`, as containerd's own shim names it. */
const FEATURES_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/features/Features';

export async function runtimeInfo(runc: Runc, version: string): Promise<Uint8Array> {
  const features = await runc.features().catch(() => '');
  return containerd.types.RuntimeInfo.encode({
    name: 'io.containerd.runc.thaw.v2',
    version: { version },
    ...(features ? { features: { type_url: FEATURES_TYPE, value: Buffer.from(features) } } : {}),
  }).finish();
}
