/** A containerd with containers that count, for `thaw checkpoint` without a kubelet. */
import { readdirSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { type Containerd as Client, createContainerd } from '../../cli/containerd/index.ts';
import {
  assertNothingLeft,
  busybox,
  Containerd,
  image,
  type Leftovers,
  layer,
  push,
  Registry,
  type RunResult,
  run,
  takeStock,
  until,
} from './index.ts';

export const RUNTIME = 'io.containerd.runc.thaw.v2';
/** Counts in memory, so that a copy that lost its memory would begin anew. */
export const COUNTER = 'i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.05; done';
const WORK = '/var/lib/thaw/work';

export class CounterNode {
  readonly registry: Registry;
  readonly containerd: Containerd;
  readonly client: Client;
  /** The image. */
  readonly base: string;

  private constructor(registry: Registry, containerd: Containerd, client: Client, base: string) {
    this.registry = registry;
    this.containerd = containerd;
    this.client = client;
    this.base = base;
  }

  static async start(): Promise<CounterNode> {
    const registry = await Registry.start();
    const base = await push(
      registry.host,
      'base/counter',
      '1',
      image([await layer(busybox()), await layer([{ path: 'etc/motd', content: 'hello\n' }])], {
        cmd: ['sh', '-c', COUNTER],
      }),
    );
    const containerd = await Containerd.start({
      env: { PATH: `/opt/thaw/current/bin:${process.env['PATH']}` },
    });
    await containerd.ctr(['images', 'pull', '--plain-http', base]);
    const client = await createContainerd({ address: containerd.socket, namespace: 'default' });
    return new CounterNode(registry, containerd, client, base);
  }

  async stop(): Promise<void> {
    this.client.close();
    await this.containerd.stop();
    await this.registry.stop();
  }

  thaw(...args: string[]): Promise<RunResult> {
    return run('thaw', ['--address', this.containerd.socket, '--namespace', 'default', ...args], {
      allowFailure: true,
      timeoutMs: 120_000,
    });
  }

  /** For commands that must succeed: a failure shows what they said. */
  async succeed(...args: string[]): Promise<RunResult> {
    const done = await this.thaw(...args);
    expect(done.code, done.stderr).toBe(0);
    return done;
  }

  async startContainer(id: string, runtime = RUNTIME): Promise<void> {
    await this.containerd.ctr(['run', '-d', '--null-io', '--runtime', runtime, this.base, id]);
    await until('the container to count', async () => (await this.count(id)) > 2);
  }

  async count(id: string): Promise<number> {
    const read = ['task', 'exec', '--exec-id', `read-${Date.now()}`, id, 'cat', '/count'];
    return Number((await this.containerd.ctr(read)).stdout);
  }

  /** The container goes on, and nothing temporary is left. */
  async expectUntouched(id: string): Promise<void> {
    expect((await this.client.tasks.get(id)).status).toBe('RUNNING');
    const then = await this.count(id);
    await until('the container to go on', async () => (await this.count(id)) > then);
    await this.expectClean();
  }

  async expectClean(): Promise<void> {
    expect((await this.client.leases.list()).filter(({ id }) => id.startsWith('thaw-'))).toEqual([]);
    const views = (await this.client.snapshots('overlayfs').list()).filter(({ kind }) => kind === 'VIEW');
    expect(views).toEqual([]);
    expect(scratch()).toEqual([]);
  }
}

export function scratch(dir = WORK): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

/** One for a whole file; each case leaves nothing. */
export function useCounterNode(given: (node: CounterNode) => void): void {
  let node: CounterNode;
  let before: Leftovers;
  beforeAll(async () => {
    node = await CounterNode.start();
    given(node);
  });
  afterAll(() => node.stop());
  beforeEach(() => {
    before = takeStock();
  });
  afterEach(async () => {
    await node.containerd.removeContainers();
    // umount(8) keeps a folder of its own.
    await assertNothingLeft(before, 5000, [/^files: \/run\/mount$/]);
  });
}
