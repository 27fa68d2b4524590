import { verifyChunks } from '../../checkpoint/pack/index.ts';
import { parseReference } from '../../checkpoint/registry/index.ts';
import type { InspectOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { Registries } from '../registry.ts';
import { formatBytes } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';
import { type OpenCheckpoint, openFromDirectory, openFromRegistry } from './open.ts';
import { sizesOf, summaryJson, summaryLines } from './summary.ts';

/** `thaw inspect`. */
export async function runInspect(options: InspectOptions, context: Context): Promise<void> {
  const registries = new Registries(options, context.env);
  try {
    const checkpoint = await openCheckpoint(options, context, registries);
    if (options.verify) await verify(checkpoint, context);
    if (options.json) context.print(toJson({ ...summaryJson(checkpoint), verified: options.verify }));
    else for (const line of summaryLines(checkpoint)) context.print(line);
  } finally {
    context.progress.abandon();
    await registries.close();
  }
}

async function openCheckpoint(
  options: InspectOptions,
  context: Context,
  registries: Registries,
): Promise<OpenCheckpoint> {
  switch (options.source) {
    case 'directory':
      return openFromDirectory(options.directory);
    case 'registry': {
      const { registry } = parseReference(options.reference);
      return registries.reading(registry, context.signal, (client) =>
        openFromRegistry(client, options.reference, context.signal),
      );
    }
  }
}

async function verify(checkpoint: OpenCheckpoint, { progress, signal }: Context): Promise<void> {
  const { decodedBytes, chunks } = sizesOf(checkpoint.index);
  const step = progress.step('Checking every chunk', decodedBytes);
  const layers = await checkpoint.openLayers(signal);
  try {
    await verifyChunks(checkpoint.index, layers, {
      signal,
      onProgress: (done, total) => step.update(done, total),
    });
  } finally {
    await layers.close();
  }
  step.finish(`${chunks} chunks, ${formatBytes(decodedBytes)}, all as the index says`);
}
