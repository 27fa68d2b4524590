import { lazyAnnotations } from '../../checkpoint/lazy/lazy-image.ts';
import { formatReference, parseReference, type Reference } from '../../checkpoint/registry/index.ts';
import { native } from '../../native/index.ts';
import { Code } from '../../proto/status.ts';
import { pushBaseLayers } from '../checkpoint/base-layers.ts';
import { makeScratch } from '../checkpoint/scratch.ts';
import { parseTarget, saveContainer } from '../checkpoint/steps.ts';
import type { Probe } from '../checkpoint/trial/probe.ts';
import { type Cleanup, checkInterrupted, ignoreMissing } from '../cleanup.ts';
import type { BuildOptions } from '../commands/handlers.ts';
import { createContainerd } from '../containerd/index.ts';
import type { Context } from '../context.ts';
import { convertImage } from '../convert-lazy/convert-image.ts';
import { CliError } from '../error.ts';
import { hostPlatform, type Registries } from '../registry.ts';
import { formatBytes } from '../ui/format.ts';
import { pullBase } from './base.ts';
import { checkRunning, type Watched, waitFor } from './condition.ts';
import { createdOf } from './created.ts';
import type { Built } from './report.ts';
import { sourceId, startSource } from './source.ts';
import { type BuildSpec, type Quiesce, signalNumber } from './spec.ts';
import { unpackLayers } from './unpack.ts';
import { countOf, warmUp } from './warm-up.ts';

/** Longer than any build takes; what a killed command leaves is collected after it. */
const LEASE_MS = 48 * 3_600_000;

export interface BuildInput {
  options: BuildOptions;
  spec: BuildSpec;
  /** The build file as it is. */
  text: string;
}

/** The whole of `thaw build`; docs/cli.md says in which order and why. */
export async function buildImage(
  { options, spec, text }: BuildInput,
  context: Context,
  cleanup: Cleanup,
  registries: Registries,
): Promise<Built> {
  const { progress, signal, env } = context;
  const target = parseTarget(options.image);
  const created = createdOf(env['SOURCE_DATE_EPOCH']);
  const { address, namespace, snapshotter, workDir } = options;

  const containerd = await createContainerd(options);
  cleanup.add('close the connection to containerd', async () => containerd.close());
  const lease = await containerd
    .within({ signal })
    .leases.create({ lifetimeMs: LEASE_MS, name: 'thaw-build' });
  cleanup.add(`delete the lease ${lease.id}`, () => ignoreMissing(containerd.leases.remove(lease.id)));
  const store = containerd.within({ lease: lease.id, signal });
  const image = options.lazy
    ? await lazyBase(spec.image, target, workDir, context, cleanup, registries)
    : spec.image;
  const pulling = progress.step('Getting the base image');
  const base = await pullBase(store, registries, image, signal, pulling);

  // Before a long start: a registry that refuses is known at once.
  const pushing = progress.step('Pushing the base layers');
  const client = registries.client(target.registry);
  const pushedBytes = await pushBaseLayers({
    ...{ store, registries, target, client, signal },
    image: base,
    layers: base.layers,
    step: pushing,
  });
  pushing.finish(pushedBytes === 0 ? 'the registry has them' : formatBytes(pushedBytes));

  const unpacking = progress.step('Unpacking the base layers');
  const made = { store, undo: containerd, cleanup, signal, snapshotter };
  const parent = await unpackLayers({
    ...made,
    layers: base.layers,
    lazy: base.lazy,
    reference: base.reference,
    step: unpacking,
  });

  const starting = progress.step('Starting the container');
  const scratch = await makeScratch(workDir, cleanup);
  const id = sourceId(text, options.image);
  const source = await startSource({
    ...made,
    ...{ address, namespace, spec, base, parent, id, calls: native },
    systemdCgroup: options.systemdCgroup,
    dir: scratch.root,
  });
  starting.finish();
  await makeWarm(spec, source, context);

  const saved = await saveContainer(
    {
      ...{ address, namespace, workDir, base, created },
      container: id,
      image: options.image,
      stop: 'dumped',
      verify: options.verify,
      probe: trialProbe(spec),
    },
    context,
    cleanup,
    registries,
  );
  return { saved, spec, base: base.reference, pushedBytes: pushedBytes + saved.pushedBytes };
}

/** The name of a base image whose layers are lazy: that one, or one made of it in the target's repository. */
async function lazyBase(
  name: string,
  target: Reference,
  workDir: string,
  context: Context,
  cleanup: Cleanup,
  registries: Registries,
): Promise<string> {
  const source = parseReference(name);
  const { signal } = context;
  const { manifest } = await registries.reading(source.registry, signal, (client) =>
    client.image(source, hostPlatform(), { signal }),
  );
  if (lazyAnnotations(manifest).size > 0) return name;
  const { registry, repository } = target;
  const to: Reference = { registry, repository, tag: undefined, digest: undefined };
  const { digest } = await convertImage({ source, target: to, workDir }, context, cleanup, registries);
  return formatReference({ ...to, digest });
}

async function makeWarm(spec: BuildSpec, source: Watched, { progress, signal }: Context): Promise<void> {
  const waiting = progress.step('Waiting until it is ready');
  await waitFor(spec.ready, source, 'was not ready', spec.ready.timeout_s);
  waiting.finish();
  if (spec.warm_up.length > 0) {
    const count = countOf(spec.warm_up);
    const warming = progress.step('Warming it up');
    await warmUp(spec.warm_up, source);
    warming.finish(`${count} ${count === 1 ? 'request' : 'requests'}`);
  }
  if (spec.quiesce) {
    const quiescing = progress.step('Bringing it to rest');
    await quiesce(spec.quiesce, source);
    quiescing.finish();
  }
  checkInterrupted(signal);
  await checkRunning(source);
}

async function quiesce({ signal, exec, until, timeout_s }: Quiesce, source: Watched): Promise<void> {
  if (signal !== undefined) await source.containerd.tasks.kill(source.id, signalNumber(signal) ?? 0);
  if (exec) {
    const process = { ...source.process, args: exec, terminal: false };
    const status = await source.containerd.tasks.exec(source.id, 'quiesce', process, timeout_s * 1000);
    if (status !== 0)
      throw new CliError(
        Code.failedPrecondition,
        `Cannot bring the container to rest: ${exec[0]} ended with ${status}`,
      );
  }
  if (until) await waitFor(until, source, 'did not come to rest', timeout_s);
}

/** A file or a line of the log is there already when a restored container is asked for it: that would show nothing. */
function trialProbe({ verify, ready }: BuildSpec): Probe | undefined {
  const { http, tcp, exec } = verify ?? ready;
  if (http) return { kind: 'http', ...http };
  if (tcp) return { kind: 'tcp', ...tcp };
  return exec && { kind: 'exec', args: exec };
}
