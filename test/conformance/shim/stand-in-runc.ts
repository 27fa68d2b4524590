/** A runc that does one thing badly while told to, for what a broken disk or kernel does to the real one. */
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export class StandInRunc {
  readonly path: string;
  readonly #flag: string;

  /** On this command of runc's it hangs for ever, dawdles for some seconds, or goes on when it is told so. */
  constructor(directory: string, command: string, how: number | 'for ever' | 'until off' = 'for ever') {
    this.path = join(directory, `runc-${command}`);
    this.#flag = `${this.path}.on`;
    const is = `[ "$word" = ${command} ] && [ -e ${this.#flag} ]`;
    writeFileSync(
      this.path,
      `#!/bin/sh\nfor word; do ${is} && ${waiting(how, this.#flag)}; done\nexec runc "$@"\n`,
    );
    chmodSync(this.path, 0o755);
  }

  on(): void {
    writeFileSync(this.#flag, '');
  }

  off(): void {
    rmSync(this.#flag, { force: true });
  }
}

function waiting(how: number | 'for ever' | 'until off', flag: string): string {
  switch (how) {
    case 'for ever':
      return 'exec sleep 100000';
    case 'until off':
      return `while [ -e ${flag} ]; do sleep 0.05; done`;
    default:
      // What is to be killed must be runc itself, and no child of it.
      return how < 100_000 ? `sleep ${how}` : `exec sleep ${how}`;
  }
}
