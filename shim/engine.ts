/** What of V8 can be set while it runs. Loaded on demand. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Engine } from './footprint.ts';

/** See `node --v8-options`. Sparkplug's code is made without a profile, but is several times as large as bytecode. */
const OPTIMIZERS = ['--no-opt', '--no-maglev', '--no-sparkplug'];

export const engine: Engine = {
  collectGarbage() {
    // A context made while the flag is set has gc(); it becomes garbage itself.
    setFlagsFromString('--expose-gc');
    const gc = runInNewContext('gc') as NodeJS.GCFunction;
    setFlagsFromString('--no-expose-gc');
    // "Last resort" also gives up code that has not run for a while, and empty pages.
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  },
  stopOptimizing() {
    for (const flag of OPTIMIZERS) setFlagsFromString(flag);
  },
};
