/**
 * How `thaw checkpoint` asks a shim for a restore whose memory accesses are recorded: files in CRIU's work directory, which
 * only a client of containerd can name (CriuWorkPath of the task's options). No image and no pod can put anything there.
 */
import { Code } from '../proto/status.ts';
import { CheckpointError } from './error.ts';

/** The index of the images that are restored; its presence asks for the record. */
export const TRIAL_INDEX_FILE = 'thaw-trial-index';
/** Written by the shim when nothing of the memory is served any more: JSON, an array of ordinals of the index. */
export const TRIAL_ORDER_FILE = 'thaw-trial-order.json';
/** Written by the shim before it kills a container whose memory it could not have right: why, as text. */
export const TRIAL_LOSS_FILE = 'thaw-trial-loss';

export function formatOrder(ordinals: Iterable<number>): string {
  return `${JSON.stringify([...ordinals])}\n`;
}

/** Whether there are such chunks is the index's to check. Throws dataLoss. */
export function parseOrder(text: string): number[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError(Code.dataLoss, 'Cannot read the recorded order: it is not JSON', { cause });
  }
  if (!Array.isArray(parsed) || !parsed.every((ordinal) => Number.isInteger(ordinal) && ordinal >= 0))
    throw new CheckpointError(Code.dataLoss, 'Cannot read the recorded order: it is no list of chunks');
  return parsed;
}
