/** The file in which `thaw record` says what was read, and `thaw convert --lazy --order` reads it. */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { FRAME_BYTES } from '../../checkpoint/lazy/write-frames.ts';
import { Code, describeError } from '../../proto/status.ts';
import { CliError } from '../error.ts';

/** Frames in the order of their first reads, by the diff ID of their layer. */
export type ReadOrder = ReadonlyMap<string, readonly number[]>;

const MAX_BYTES = 64 << 20;
const schema = z.strictObject({
  version: z.literal(1),
  frameBytes: z.int(),
  layers: z.array(z.strictObject({ diffId: z.string(), frames: z.array(z.int().min(0)) })),
});

export function formatReadOrder(reads: readonly { diffId: string; frames: readonly number[] }[]): string {
  const layers = reads.map(({ diffId, frames }) => ({ diffId, frames }));
  return JSON.stringify({ version: 1, frameBytes: FRAME_BYTES, layers });
}

/** Throws CliError for a file that cannot be read, or is none of these. */
export async function readOrderFile(path: string): Promise<ReadOrder> {
  const bytes = await readFile(path).catch((cause: unknown) => {
    const { code } = describeError(cause);
    throw new CliError(code, `Cannot read ${path}: check that it exists and can be read`, { cause });
  });
  return parseReadOrder(bytes, path);
}

export function parseReadOrder(bytes: Buffer, path: string): ReadOrder {
  const wrong = (why: string, cause?: unknown) =>
    new CliError(
      Code.invalidArgument,
      `Cannot use ${path}: ${why}; make it with 'thaw record'`,
      cause === undefined ? {} : { cause },
    );
  if (bytes.length > MAX_BYTES) throw wrong(`it has ${bytes.length} bytes`);
  let order: z.infer<typeof schema>;
  try {
    order = schema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (cause) {
    throw wrong('it does not say what was read of lazy layers', cause);
  }
  if (order.frameBytes !== FRAME_BYTES) throw wrong('its layers had frames of another length');
  return new Map(order.layers.map(({ diffId, frames }) => [diffId, frames]));
}
