/**
 * A fake systemd: no test node has one, as it must be PID 1 and wants cgroups of version 2. Its `systemctl` hands every command line to the
 * test, which starts and stops the daemons as the units and the manual of systemctl say.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { runDir } from './dirs.ts';

/** Where sd_booted(3) looks. */
const BOOTED = '/run/systemd/system';

export class FakeSystemd {
  /** Has `systemctl`; to be put into PATH. */
  readonly bin: string;
  /** Command lines, oldest first. */
  readonly asked: string[] = [];
  readonly #dir: string;
  readonly #server: Server;

  private constructor(answer: (command: string, units: readonly string[]) => Promise<number>) {
    this.#dir = runDir('systemd');
    this.bin = join(this.#dir, 'bin');
    mkdirSync(this.bin);
    mkdirSync(BOOTED, { recursive: true });
    const socket = join(this.#dir, 'socket');
    writeFileSync(
      join(this.bin, 'systemctl'),
      `#!/bin/sh\nexit "$(curl -s --unix-socket ${socket} --data-raw "$*" http://systemd/)"\n`,
      { mode: 0o755 },
    );
    this.#server = createServer((request, response) => {
      request.setEncoding('utf8');
      let line = '';
      request.on('data', (text: string) => {
        line += text;
      });
      request.on('end', () => {
        const [command = '', ...words] = line.split(' ');
        if (command !== 'is-enabled') this.asked.push(line);
        const units = words.filter((word) => !word.startsWith('-'));
        answer(command, units).then(
          (code) => response.end(String(code)),
          () => response.end('1'),
        );
      });
    });
    this.#server.listen(socket);
  }

  /** `answer` does what is asked and says with which status `systemctl` ends. */
  static start(answer: (command: string, units: readonly string[]) => Promise<number>): FakeSystemd {
    return new FakeSystemd(answer);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.#dir, { recursive: true });
    rmSync('/run/systemd', { recursive: true, force: true });
  }
}
