/** `--dry-run`: what would be built, from what can be read. */
import { stat } from 'node:fs/promises';
import { describeError } from '../../proto/status.ts';
import { parseTarget } from '../checkpoint/steps.ts';
import type { Cleanup } from '../cleanup.ts';
import type { BuildOptions } from '../commands/handlers.ts';
import { createContainerd } from '../containerd/index.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import type { Registries } from '../registry.ts';
import { lookUpBase } from './base.ts';
import { launchOf } from './oci-spec.ts';
import type { Plan } from './report.ts';
import type { BuildSpec } from './spec.ts';

export async function planBuild(
  options: BuildOptions,
  spec: BuildSpec,
  { signal }: Context,
  cleanup: Cleanup,
  registries: Registries,
): Promise<Plan> {
  const target = parseTarget(options.image);
  await checkMounts(spec);
  const containerd = await createContainerd(options);
  cleanup.add('close the connection to containerd', async () => containerd.close());
  const { base, here } = await lookUpBase(containerd, registries, spec.image, signal);
  await registries.client(target.registry).ping({ signal });
  return {
    target: options.image,
    base: base.reference,
    baseBytes: base.layers.reduce((sum, { size }) => sum + size, 0),
    local: here,
    launch: launchOf(spec, base.run),
    spec,
  };
}

/** What runc would say after a long pull. */
export async function checkMounts(spec: BuildSpec): Promise<void> {
  for (const { source, destination } of spec.mounts)
    await stat(source).catch((cause: unknown) => {
      throw new CliError(
        describeError(cause).code,
        `Cannot mount ${source} at ${destination}: it is not on this node, or cannot be read`,
        { cause },
      );
    });
}
