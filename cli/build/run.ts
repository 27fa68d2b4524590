import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { Code, describeError } from '../../proto/status.ts';
import { undo } from '../checkpoint/run.ts';
import { spaceError } from '../checkpoint/scratch.ts';
import { Cleanup } from '../cleanup.ts';
import type { BuildOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { Registries } from '../registry.ts';
import { toJson } from '../ui/json.ts';
import { planBuild } from './plan.ts';
import { builtJson, builtLines, planJson, planLines } from './report.ts';
import { parseBuildSpec } from './spec.ts';
import { buildImage } from './steps.ts';

/** `thaw build`. Whatever happens, the container and everything temporary is removed. */
export async function runBuild(options: BuildOptions, context: Context): Promise<void> {
  const text = await readBuildFile(options.file);
  const spec = parseBuildSpec(text, options.file.endsWith('.json') ? 'json' : 'toml');
  const cleanup = new Cleanup();
  const registries = new Registries(options, context.env);
  cleanup.add('close the registry connections', () => registries.close());
  let said: { json: object; lines: string[] };
  try {
    if (options.dryRun) {
      const plan = await planBuild(options, spec, context, cleanup, registries);
      said = { json: planJson(plan), lines: planLines(plan) };
    } else {
      const built = await buildImage({ options, spec, text }, context, cleanup, registries);
      said = { json: builtJson(built), lines: builtLines(built) };
    }
  } catch (error) {
    context.progress.abandon();
    await undo(cleanup, context);
    throw spaceError(error, options.workDir);
  }
  const left = await undo(cleanup, context);
  if (options.json) context.print(toJson(said.json));
  else for (const line of said.lines) context.print(line);
  if (left > 0)
    throw new CliError(
      Code.internal,
      `${options.image} was built, but something temporary could not be removed: see the warnings`,
    );
}

async function readBuildFile(file: string): Promise<string> {
  if (file === '-') return readAll(process.stdin);
  return readFile(file, 'utf8').catch((cause: unknown) => {
    throw new CliError(
      describeError(cause).code,
      `Cannot read the build file ${file}: check that it exists and can be read`,
      { cause },
    );
  });
}
