/** `thaw convert --lazy`: an image whose layers a thaw node reads on demand, and every other node as any image. */
import { formatReference, parseReference } from '../../checkpoint/registry/index.ts';
import { Cleanup } from '../cleanup.ts';
import type { ConvertLazyOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { Registries } from '../registry.ts';
import { formatBytes } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';
import { convertImage } from './convert-image.ts';
import { readOrderFile } from './read-order.ts';

export async function runConvertLazy(options: ConvertLazyOptions, context: Context): Promise<void> {
  const cleanup = new Cleanup();
  const registries = new Registries(options, context.env);
  cleanup.add('close the registry connections', () => registries.close());
  const target = parseReference(options.target);
  try {
    const { source, workDir } = options;
    const order = options.order === undefined ? undefined : await readOrderFile(options.order);
    const made = { source: parseReference(source), target, workDir, order };
    const { digest, layers } = await convertImage(made, context, cleanup, registries);
    const reference = formatReference(target);
    for (const [i, { kept }] of layers.entries())
      if (kept !== undefined) context.warn(`warning: layer ${i} stays as it is: ${kept}`);
    const lazy = layers.filter(({ kept }) => kept === undefined).length;
    const bytes = layers.reduce((sum, { size }) => sum + size, 0);
    if (options.json) context.print(toJson({ image: reference, digest, layers }));
    else
      context.print(
        `${reference}@${digest}: ${lazy} of ${layers.length} layers on demand, ${formatBytes(bytes)}`,
      );
  } finally {
    context.progress.abandon();
    for (const { message } of await cleanup.run()) context.warn(`warning: ${message}`);
  }
}
