import { Code } from '../../proto/status.ts';
import { undo } from '../checkpoint/run.ts';
import { spaceError } from '../checkpoint/scratch.ts';
import { Cleanup } from '../cleanup.ts';
import type { ConvertOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { Registries } from '../registry.ts';
import { formatBytes } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';
import { convertToArchive } from './to-archive.ts';
import { convertToImage } from './to-image.ts';

/** `thaw convert`. Whatever happens, everything temporary is removed. */
export async function runConvert(options: ConvertOptions, context: Context): Promise<void> {
  const cleanup = new Cleanup();
  const registries = new Registries(options, context.env);
  cleanup.add('close the registry connections', () => registries.close());
  let said: { json: object; line: string };
  try {
    said = await convert(options, context, cleanup, registries);
  } catch (error) {
    context.progress.abandon();
    await undo(cleanup, context);
    throw spaceError(error, options.workDir);
  }
  const left = await undo(cleanup, context);
  context.print(options.json ? toJson(said.json) : said.line);
  if (left > 0)
    throw new CliError(
      Code.internal,
      'It was converted, but something temporary could not be removed: see the warnings',
    );
}

async function convert(
  options: ConvertOptions,
  context: Context,
  cleanup: Cleanup,
  registries: Registries,
): Promise<{ json: object; line: string }> {
  switch (options.to) {
    case 'archive': {
      const json = await convertToArchive(options, context, cleanup, registries);
      return { json, line: `${json.archive}: ${formatBytes(json.bytes)}, from ${json.reference}` };
    }
    case 'image': {
      const { reference, ...rest } = await convertToImage(options, context, cleanup, registries);
      const line = `${reference}: ${rest.digest}, ${formatBytes(rest.memoryBytes)} of memory, on ${rest.base}; unverified`;
      return { json: { image: reference, ...rest, verified: false }, line };
    }
  }
}
