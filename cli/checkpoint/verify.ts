import type { LayerReads } from '../../checkpoint/index-format.ts';
import { type PackedData, provisionalIndex } from '../../checkpoint/pack/index.ts';
import { native } from '../../native/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { whileRecording } from './layer-reads.ts';
import type { StopWhen } from './steps.ts';
import { type TrialInput, tryRestore } from './trial/run.ts';

export interface VerifyInput extends Omit<TrialInput, 'index' | 'calls'> {
  packed: PackedData;
  /** Annotations of the lazy layers that it runs on, by blob digest. */
  lazy: ReadonlyMap<string, string>;
  /** The user has asked for an image that is not verified. */
  skip: boolean;
  /** When the source ends. */
  stop: StopWhen | undefined;
}

export interface Verified {
  kind: 'passed' | 'unverified';
  /** Ordinals of chunks; empty if nothing was recorded. */
  accessOrder: readonly number[];
  layerReads: readonly LayerReads[];
}

/** Rejects if what was saved cannot be restored here: then it is not to be published. */
export async function verify(
  { packed, lazy, skip, stop, ...input }: VerifyInput,
  { progress, warn }: Context,
): Promise<Verified> {
  if (skip) return { kind: 'unverified', accessOrder: [], layerReads: [] };
  const step = progress.step('Restoring it once');
  try {
    const trial = () => tryRestore({ ...input, index: provisionalIndex(packed), calls: native });
    const { result, layerReads } = await whileRecording(lazy, input.signal, warn, trial);
    if (result.kind === 'passed') {
      step.finish(input.probe ? 'its probe passed' : 'it runs');
      return { ...result, layerReads };
    }
    step.finish('not possible here');
    warn(`warning: the image is not verified: ${result.reason}`);
    return { kind: 'unverified', accessOrder: [], layerReads: [] };
  } catch (error) {
    const { code, message } = describeError(error);
    if (code === Code.canceled) throw error;
    const goesOn = stop === 'dumped' ? '' : `; ${input.source.id} goes on running`;
    throw new CliError(
      code,
      `Nothing was pushed, as a trial restore on this node failed: ${message}${goesOn} (--no-verify pushes it all the same)`,
      { cause: error },
    );
  }
}
