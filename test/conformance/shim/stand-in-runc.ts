/** A runc that does one thing badly while told to, for what a broken disk or kernel does to the real one. */
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export class StandInRunc {
  readonly path: string;
  readonly #flag: string;

  /** Hangs (or dawdles, with `seconds`) on this command of runc's. */
  constructor(directory: string, command: string, seconds = 100_000) {
    this.path = join(directory, `runc-${command}`);
    this.#flag = `${this.path}.on`;
    const wait = seconds < 100_000 ? `sleep ${seconds}` : `exec sleep ${seconds}`;
    writeFileSync(
      this.path,
      `#!/bin/sh\nfor word; do [ "$word" = ${command} ] && [ -e ${this.#flag} ] && ${wait}; done\nexec runc "$@"\n`,
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
