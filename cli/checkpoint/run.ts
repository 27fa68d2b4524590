import { Code } from '../../proto/status.ts';
import { Cleanup } from '../cleanup.ts';
import type { CheckpointOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { Registries } from '../registry.ts';
import { toJson } from '../ui/json.ts';
import { type Saved, savedJson, savedLines } from './report.ts';
import { spaceError } from './scratch.ts';
import { type SaveOptions, saveContainer } from './steps.ts';
import { parseProbe } from './trial/probe.ts';

/** `thaw checkpoint`. Whatever happens, the container goes on and everything temporary is removed. */
export async function runCheckpoint(options: CheckpointOptions, context: Context): Promise<void> {
  const cleanup = new Cleanup();
  const registries = new Registries(options, context.env);
  cleanup.add('close the registry connections', () => registries.close());
  let saved: Saved;
  try {
    const request: SaveOptions = {
      ...options,
      stop: options.stop ? 'pushed' : undefined,
      probe: options.probe === undefined ? undefined : parseProbe(options.probe),
    };
    saved = await saveContainer(request, context, cleanup, registries);
  } catch (error) {
    context.progress.abandon();
    await undo(cleanup, context);
    throw spaceError(error, options.workDir);
  }
  const left = await undo(cleanup, context);
  if (options.json) context.print(toJson(savedJson(saved)));
  else for (const line of savedLines(saved)) context.print(line);
  if (left > 0)
    throw new CliError(
      Code.internal,
      `${saved.reference} was pushed, but something temporary could not be removed: see the warnings`,
    );
}

/** Undoes everything, and says what could not be undone, as the user must do it then. Returns how much that is. */
export async function undo(cleanup: Cleanup, context: Context): Promise<number> {
  const failures = await cleanup.run();
  for (const { message } of failures) context.warn(`warning: ${message}`);
  return failures.length;
}
