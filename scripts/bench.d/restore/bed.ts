/** What the restore benches stand on: a thaw node with its registry, and checkpoints of workers. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { TomlTable } from 'smol-toml';
import { type Containerd as Client, createContainerd } from '../../../cli/containerd/index.ts';
import { type Entry, run, runDir, until } from '../../../test/lib/index.ts';
import { KubeletNode, type Pod } from '../../../test/lib/kubelet-node.ts';
import { ask, listPages, type Outcome, outcome, SOCKET, workerProgram } from './probe.ts';

const NAMESPACE = 'k8s.io';
const CHECKPOINT_MS = 20 * 60_000;
/** The worker in its image: a path that no image has yet. */
const WORKER = 'srv/worker';

/**
 * Questions with an answer that depends on memory alone: a tenth of all pages one by one, a tenth in runs of 1 MiB as the
 * tensors of a model lie, and all pages.
 */
export const questions = ['answer:1', 'answer:256', 'pass'] as const;
export type Question = (typeof questions)[number];

/** Checksums that every restored worker must give too. */
export type Answers = Record<Question, string>;

/** A checkpoint of a worker, complete on this node, beside the worker itself. */
export interface Saved {
  mib: number;
  command: string[];
  /** Name of the image that the source was started from. */
  cold: string;
  /** Name of the checkpoint image. */
  image: string;
  /** CRIU's images in the node cache. */
  imagesDir: string;
  /** List of the pages that must come back, and their bytes. */
  pages: string;
  bytes: number;
  /** The source of the checkpoint, which goes on. */
  original: Pod;
  originalRootfs: string;
  answers: Answers;
}

export function workerEntry(): Entry {
  return { path: WORKER, mode: 0o755, content: readFileSync(workerProgram) };
}

export function commandOf(mib: number): string[] {
  return [`/${WORKER}`, String(mib), `/${SOCKET}`];
}

interface Status {
  checkpoints: { id: string; image: string; state: string; error: string }[];
}

export class Bed {
  readonly node: KubeletNode;
  readonly client: Client;
  /** For small files, on tmpfs. */
  readonly dir: string;

  private constructor(node: KubeletNode, client: Client) {
    this.node = node;
    this.client = client;
    this.dir = runDir('bench');
  }

  /** `extra` are further settings of containerd. */
  static async start(extra: TomlTable = {}): Promise<Bed> {
    // At its default level: no program is asked to write a line for every step.
    const node = await KubeletNode.start({ logLevel: 'info', extra });
    return new Bed(node, await createContainerd({ address: node.containerd.socket, namespace: NAMESPACE }));
  }

  /** Ends the daemons; containers and files go with the node. */
  async stop(): Promise<void> {
    this.client.close();
    this.node.cri.close();
    await this.node.stopSnapshotter();
    await this.node.containerd.halt();
    await this.node.registry.halt();
  }

  /** Where a container's root file system is mounted while its task is there. */
  rootfs(containerId: string): string {
    const tasks = 'state/io.containerd.runtime.v2.task';
    return join(dirname(this.node.containerd.socket), tasks, NAMESPACE, containerId, 'rootfs');
  }

  /** Pushes a minimal image of a worker; its name. */
  pushWorker(mib: number): Promise<string> {
    return this.node.pushImage(`bench/worker-${mib}`, [workerEntry()], commandOf(mib));
  }

  /** Runs a worker of this size from its image and checkpoints it; then makes the checkpoint complete on this node. */
  async save(mib: number, cold: string): Promise<Saved> {
    const command = commandOf(mib);
    const original = await this.node.runPod({ image: cold, command });
    const originalRootfs = this.rootfs(original.containerId);
    const asked = await ask(originalRootfs, questions);
    const entries = questions.map((question) => [question, outcome(asked, question).value]);
    const answers = Object.fromEntries(entries) as Answers;
    const pages = join(this.dir, `pages-${mib}`);
    const { pid } = await this.client.tasks.get(original.containerId);
    const bytes = await listPages(pid, pages);
    const image = cold.replace(/:[^:/]*$/, ':warm');
    const address = this.node.containerd.socket;
    const args = ['--address', address, 'checkpoint', original.containerId, '--image', image, '--json'];
    await run('thaw', args, { timeoutMs: CHECKPOINT_MS });
    const imagesDir = await this.complete(image, command);
    return { mib, command, cold, image, imagesDir, pages, bytes, original, originalRootfs, answers };
  }

  /**
   * What a worker that never was in a checkpoint does. A new one each time: how fast memory is read depends on which
   * physical pages a process got (up to a seventh from process to process, steady within one).
   */
  async askOriginal(saved: Saved, actions: readonly string[]): Promise<Outcome[]> {
    const pod = await this.node.runPod({ image: saved.cold, command: saved.command });
    try {
      return await ask(this.rootfs(pod.containerId), actions);
    } finally {
      await this.node.removePod(pod);
    }
  }

  /** Ends a checkpoint's source and forgets the checkpoint. */
  async drop(saved: Saved): Promise<void> {
    await this.node.removePod(saved.original);
    await this.node.forget(saved.image);
  }

  /** Pulls a checkpoint image and waits until all of it is here; the folder with CRIU's images. */
  async complete(image: string, command: string[]): Promise<string> {
    const pod = await this.node.createPod({ image, command });
    const entry = await until(
      `all of ${image} to be on this node`,
      async () => {
        const { checkpoints } = JSON.parse((await this.node.thaw(['status', '--json'])).stdout) as Status;
        return checkpoints.find(
          (checkpoint) => checkpoint.image === image && checkpoint.state === 'complete',
        );
      },
      CHECKPOINT_MS,
    );
    await this.node.removePod(pod);
    const dir = join(this.node.root, 'cache', entry.id.replace(/^sha256:/, ''), 'files');
    // Into the page cache, where all sides find it.
    await run('sh', ['-c', 'cat "$0"/* >/dev/null', dir], { timeoutMs: CHECKPOINT_MS });
    return dir;
  }
}
