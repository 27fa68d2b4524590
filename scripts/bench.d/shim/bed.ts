/** What every measurement here stands on: one containerd, one image, one client. */
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Containerd as Client, createContainerd } from '../../../cli/containerd/index.ts';
import { busybox, Containerd, image, layer, run, runDir } from '../../../test/lib/index.ts';
import type { Side } from '../alternate.ts';
import { Lane } from './lane.ts';
import { runtimes } from './peers.ts';
import { Tasks } from './tasks.ts';

const IMAGE = 'bench.local/shim:1';

export interface LaneOptions {
  /** Containers of one pod share a shim. */
  pod?: string;
  /** Default true: nothing reads the container's output, but it does not fill a pipe either. */
  holdStdio?: boolean;
}

export class Bed {
  readonly #containerd: Containerd;
  readonly #client: Client;
  readonly tasks: Tasks;
  readonly #fifos: string;
  /** Ends of fifos that are kept open. */
  readonly #held: number[] = [];

  private constructor(containerd: Containerd, client: Client) {
    this.#containerd = containerd;
    this.#client = client;
    this.tasks = new Tasks(containerd.socket);
    this.#fifos = runDir('fifo');
  }

  static async start(): Promise<Bed> {
    // At its default level: neither shim is asked to write a line for every step.
    const containerd = await Containerd.start({ logLevel: 'info' });
    try {
      const pump = { path: 'bin/pump', mode: 0o755, content: readFileSync(pumpProgram) };
      await containerd.importImage(IMAGE, image([await layer([...busybox(), pump])]));
      return new Bed(
        containerd,
        await createContainerd({ address: containerd.socket, namespace: 'default' }),
      );
    } catch (error) {
      await containerd.halt();
      throw error;
    }
  }

  async stop(): Promise<void> {
    this.tasks.close();
    this.#client.close();
    for (const fd of this.#held.splice(0)) closeSync(fd);
    // Records, snapshots and what a failed measurement left running go with the node.
    await this.#containerd.halt();
  }

  /** A container's record, root file system and fifos, for as many tasks in a row as one likes. */
  async lane(side: Side, name: string, command: readonly string[], options: LaneOptions = {}): Promise<Lane> {
    // Equally long for both.
    const id = `${side}-${name}`;
    const pod =
      options.pod === undefined ? [] : ['--annotation', `io.containerd.runc.v2.group=${side}-${options.pod}`];
    await this.#containerd.ctr([
      ...['container', 'create', '--runtime', runtimes[side]],
      ...pod,
      ...[IMAGE, id, ...command],
    ]);
    const { spec } = await this.#client.containers.get(id);
    const rootfs = await this.#client.snapshots('overlayfs').mounts(id);
    const stdio = {
      stdin: '',
      stdout: join(this.#fifos, `${id}-out`),
      stderr: join(this.#fifos, `${id}-err`),
    };
    await run('mkfifo', ['-m', '0700', stdio.stdout, stdio.stderr]);
    // Both ends in one descriptor: a fifo is neither waited for nor ever broken.
    if (options.holdStdio ?? true)
      for (const path of [stdio.stdout, stdio.stderr])
        this.#held.push(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
    return new Lane(this.tasks, { id, rootfs, stdio, spec });
  }
}

/** Built by scripts/bench. */
export const pumpProgram = join(import.meta.dirname, '../../../build/bench/pump');
