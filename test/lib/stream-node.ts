/** A containerd with our shim, and clients that bring their own streams: for tests of what becomes of those. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import {
  assertNothingLeft,
  bundleOf,
  busybox,
  ClientStreams,
  Containerd,
  image,
  type Leftovers,
  layer,
  privateDir,
  TaskClient,
  takeStock,
} from './index.ts';

export const RUNTIME = 'io.containerd.runc.thaw.v2';
export const IMAGE = 'test.local/busybox:1';

export const shell = (script: string) => ['sh', '-c', script];

export class StreamNode {
  readonly containerd: Containerd;
  readonly tasks: TaskClient;
  #streams: ClientStreams[] = [];

  private constructor(containerd: Containerd) {
    this.containerd = containerd;
    this.tasks = new TaskClient(containerd.socket);
  }

  static async start(): Promise<StreamNode> {
    const containerd = await Containerd.start();
    await containerd.importImage(IMAGE, image([await layer(busybox())], { cmd: ['sh'] }));
    return new StreamNode(containerd);
  }

  async stop(): Promise<void> {
    this.tasks.close();
    await this.containerd.stop();
  }

  /** Every container and client gone. */
  async reset(): Promise<void> {
    await this.containerd.removeContainers();
    for (const one of this.#streams.splice(0)) await one.close();
  }

  fifos(): ClientStreams {
    const made = new ClientStreams(privateDir('fifos'));
    this.#streams.push(made);
    return made;
  }

  /** A container's record, without a task. */
  async record(id: string, command: string[], ...options: string[]): Promise<void> {
    const create = ['container', 'create', '--runtime', RUNTIME, ...options, IMAGE, id, ...command];
    const made = await this.containerd.ctr(create, { allowFailure: true });
    expect(made.stderr).toBe('');
  }

  /** A container that idles, for execs. */
  async idle(id: string): Promise<void> {
    await this.record(id, ['sh', '-c', 'while :; do sleep 1000; done']);
    await this.tasks.create(id, {});
    await this.tasks.start(id);
  }

  /** Names of console sockets in its bundle. */
  consoles(id: string): string[] {
    return readdirSync(bundleOf(this.containerd, id)).filter((name) => name.includes('console'));
  }
}

export function shimPid(id: string): number {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      if (args.at(-2) === 'serve' && args.includes(id)) return Number(pid);
    } catch {
      // it has ended meanwhile
    }
  }
  throw new Error(`no shim of ${id}`);
}

export const descriptors = (pid: number) =>
  readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));

/** Hooks for a test file with one such node, on which each test leaves nothing. */
export function useStreamNode(given: (node: StreamNode) => void): void {
  let node: StreamNode;
  let before: Leftovers;
  beforeAll(async () => {
    node = await StreamNode.start();
    given(node);
  });
  afterAll(() => node.stop());
  beforeEach(() => {
    before = takeStock();
  });
  afterEach(async () => {
    await node.reset();
    // mount(8) makes it.
    await assertNothingLeft(before, 10_000, [/^files: \/run\/mount$/]);
  });
}
