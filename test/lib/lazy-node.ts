/**
 * A node, a slow link to its registry, and the checkpoint of a process that knows every byte of its memory: what the tests
 * of memory that arrives later have in common.
 */
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { privateDir } from './dirs.ts';
import { KubeletNode, type KubeletNodeOptions, type Pod, type PodRequest } from './kubelet-node.ts';
import { assertNothingLeft, type Leftovers, takeStock } from './leftovers.ts';
import { SlowLink } from './slow-link.ts';
import { until } from './wait.ts';

const REPOSITORY = 'test/memory';
const MIB = 64;
const command = (mib: number) => ['/memory', String(mib), '20250701'];
/** What comes to the registry of the 64 MiB, at the least: 21 MiB of it cannot be compressed, and 16 are floats. */
const STORED = 30 << 20;
/** So slow that a restore takes seconds, on any machine, before half of it is here. */
const SLOW = 500_000;

/** A pod with the memory program, and its volume. */
export interface MemoryPod extends Pod {
  readonly dir: string;
}

export class LazyNode {
  readonly node: KubeletNode;
  /** Pulls through it are slow; the checkpoint is pushed past it. */
  readonly link: SlowLink;
  /** The checkpoint, as it is called behind the link. */
  readonly warm: string;
  /** The image that it was made of, past the link. */
  readonly cold: string;
  readonly #pods: MemoryPod[] = [];

  private constructor(node: KubeletNode, link: SlowLink, cold: string) {
    this.node = node;
    this.link = link;
    this.cold = cold;
    this.warm = `${link.host}/${REPOSITORY}:warm`;
  }

  static async start(options: KubeletNodeOptions = {}): Promise<LazyNode> {
    const node = await KubeletNode.start(options);
    const content = readFileSync('/thaw/build/test/memory');
    const cold = await node.pushImage(REPOSITORY, [{ path: 'memory', mode: 0o755, content }], command(MIB));
    const lazy = new LazyNode(node, await SlowLink.start(node.registry.host), cold);
    const pod = await lazy.run(cold);
    await lazy.beats(pod);
    await lazy.ask(pod, 'check');
    await lazy.save(pod, REPOSITORY);
    await lazy.removePods();
    await node.forget(`${node.registry.host}/${REPOSITORY}:warm`);
    return lazy;
  }

  /**
   * Its heart beats into a volume. A dump that catches that file open cannot be restored where the volume has gone on, and
   * the trial says so: then it is saved once more.
   */
  async save(pod: Pod, repository: string, tag?: string): Promise<string> {
    for (let left = 4; ; left--) {
      try {
        return await this.node.checkpoint(pod, repository, tag);
      } catch (error) {
        if (left === 0 || !String(error).includes('a trial restore on this node failed')) throw error;
      }
    }
  }

  async stop(): Promise<void> {
    await this.removePods();
    await this.node.stop();
    await this.link.cut();
  }

  async create(image: string, request: Partial<PodRequest> = {}): Promise<MemoryPod> {
    const dir = privateDir('work');
    const mounts = [{ containerPath: '/work', hostPath: dir }];
    const pod = await this.node.createPod({ image, command: command(MIB), mounts, ...request });
    const memoryPod = { ...pod, dir };
    this.#pods.push(memoryPod);
    return memoryPod;
  }

  /** Its command line, with so much memory. */
  command(mib: number): string[] {
    return command(mib);
  }

  async run(image: string, request: Partial<PodRequest> = {}): Promise<MemoryPod> {
    const pod = await this.create(image, request);
    await this.node.cri.startContainer(pod.containerId);
    return pod;
  }

  /** Restored from the registry behind the slow link, which is then held: most of its memory is not here. */
  async runHeld(image = this.warm): Promise<MemoryPod> {
    this.link.rate = SLOW;
    const before = this.link.sent;
    const pod = await this.run(image);
    this.link.held = true;
    await this.expectRestored(pod);
    const here = this.link.sent - before;
    if (here > STORED / 2) throw new Error(`${here} bytes have come before the start`);
    return pod;
  }

  async expectRestored(pod: MemoryPod): Promise<void> {
    expect(await this.node.startOf(pod)).toContain('"restored"');
  }

  /** The rest may come, as fast as it can. */
  letGo(): void {
    this.link.held = false;
    this.link.rate = Number.POSITIVE_INFINITY;
  }

  /** Its memory is right, all of it. */
  async check(pod: MemoryPod): Promise<void> {
    await this.ask(pod, 'check');
  }

  /** Does something, which must come out right. */
  async ask(pod: MemoryPod, command: string): Promise<void> {
    this.tell(pod, command);
    await this.answered(pod, command);
  }

  tell({ dir }: MemoryPod, command: string): void {
    rmSync(`${dir}/answer`, { force: true });
    writeFileSync(`${dir}/command.new`, command);
    renameSync(`${dir}/command.new`, `${dir}/command`);
  }

  async answered(pod: MemoryPod, command: string): Promise<void> {
    const answer = await until(
      `the answer to ${command}`,
      () => {
        const text = this.hasAnswered(pod) ? readFileSync(`${pod.dir}/answer`, 'utf8') : '';
        // One that was saved in the middle of a command answers that first.
        return text !== '' && (text.endsWith(command) || text.startsWith('wrong')) && text;
      },
      60_000,
    );
    if (answer !== `ok ${command}`) throw new Error(`${answer}: ${this.wrong(pod)}`);
  }

  hasAnswered({ dir }: MemoryPod): boolean {
    return existsSync(`${dir}/answer`);
  }

  /** What it read that was not right; empty if nothing. It is told at once, whatever becomes of the process. */
  wrong({ dir }: MemoryPod): string {
    return existsSync(`${dir}/wrong`) ? readFileSync(`${dir}/wrong`, 'utf8') : '';
  }

  /** Resolves when the process has run for a moment. */
  async beats({ dir }: MemoryPod): Promise<void> {
    const beat = () => Number(readFileSync(`${dir}/beat`, 'utf8'));
    const first = await until('a sign of life', beat);
    await until('further signs of life', () => beat() > first + 5);
  }

  /** What shims log from now on, without containerd's own lines. */
  shimLog(): () => string {
    const from = this.node.shimLog().length;
    const lines = () => this.node.shimLog().slice(from).split('\n');
    return () =>
      lines()
        .filter((line) => line.startsWith('{'))
        .join('\n');
  }

  /** Nothing is left to come. */
  async drained(): Promise<void> {
    await until('the guard to have nothing to do', () => this.guards().length === 0, 45_000);
  }

  /** The process is gone, and containerd knows it. */
  async ended({ containerId }: MemoryPod): Promise<number> {
    await until('all processes to end', () => this.workloads().length === 0, 30_000);
    return until('containerd to know it', async () => {
      const { state, exitCode } = await this.node.cri.containerStatus(containerId);
      return state === 'CONTAINER_EXITED' && exitCode;
    });
  }

  /** Host pids of a running program. */
  pids(commandLine: RegExp): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => {
        try {
          return commandLine.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '));
        } catch {
          return false;
        }
      })
      .map(Number);
  }

  workloads(): number[] {
    return this.pids(/^\/memory /);
  }

  guards(): number[] {
    return this.pids(/containerd-shim-thaw-v2 guard $/);
  }

  shims(): number[] {
    return this.pids(/ serve $/);
  }

  async removePods(): Promise<void> {
    for (const pod of this.#pods.splice(0)) {
      // A call that a killed shim never answered fails; a kubelet asks again.
      await this.node.removePod(pod).catch((error: unknown) => {
        if (!String(error).includes('ttrpc: closed')) throw error;
        return this.node.removePod(pod);
      });
      rmSync(pod.dir, { recursive: true, force: true });
    }
  }

  /** After a test: the pods gone, and nothing of the checkpoint on the node. */
  async reset(): Promise<void> {
    this.link.spoil = 0;
    this.letGo();
    await this.link.mend();
    await this.removePods();
    await this.node.forget(this.warm);
  }
}

/** Hooks for a test file with one such node, which each test leaves as it found it. */
export function useLazyNode(onStarted: (lazy: LazyNode) => void, start = () => LazyNode.start()): void {
  let lazy: LazyNode;
  let stock: Leftovers;
  beforeAll(async () => {
    lazy = await start();
    onStarted(lazy);
  });
  afterAll(() => lazy.stop());
  beforeEach(() => {
    stock = takeStock();
  });
  afterEach(async () => {
    await lazy.reset();
    await assertNothingLeft(stock);
  });
}
