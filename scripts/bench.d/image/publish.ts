/** Puts a recipe's images into the registry: as they are, lazy, and a checkpoint of its server in both forms. */
import { join } from 'node:path';
import { run } from '../../../test/lib/index.ts';
import { type ColdBed, handlers } from '../coldnode/bed.ts';
import { debianBase, packCheckpoint, packEntries, pushImage } from '../coldnode/images.ts';
import { ColdPod } from '../coldnode/pod.ts';
import { pushEstargz } from '../stargz/convert.ts';
import { firstAnswer } from './answer.ts';
import { recordOrder } from './read-order.ts';
import { essence, type Recipe } from './recipes.ts';

export interface Published {
  recipe: Recipe;
  /** Ordinary image with zstd layers, and the lazy one made of it, in the order in which a cold start was recorded to read it. */
  plain: string;
  lazy: string;
  /** The lazy one without an order. */
  unordered: string;
  /** The ordinary one as eStargz; empty where nobody asked for it. */
  estargz: string;
  /** Checkpoint image on the lazy one, and the ordinary one with CRIU's files as a layer. */
  warm: string;
  files: string;
  /** What its server answers. */
  answer: string;
}

const LONG_MS = 20 * 60_000;

export async function publish(
  cold: ColdBed,
  recipe: Recipe,
  roots: string,
  { withEstargz }: { withEstargz: boolean },
): Promise<Published> {
  const { node } = cold.bed;
  const { host } = node.registry;
  const repository = `bench/image-${recipe.name}`;
  const { command, env } = recipe;
  const layers = [
    await debianBase(join(roots, recipe.root), cold.dir),
    await packEntries('the server', recipe.entries),
  ];
  const plain = await pushImage({ host, repository, tag: 'plain', layers, command, env });
  const unordered = `${host}/${repository}:unordered`;
  const lazy = `${host}/${repository}:lazy`;
  const thaw = (...args: string[]) =>
    run('thaw', ['--address', node.containerd.socket, ...args], { timeoutMs: LONG_MS });
  await thaw('convert', '--lazy', plain, unordered);
  await thaw('convert', '--lazy', plain, lazy, '--order', await recordOrder(cold, unordered, recipe));

  const estargz = withEstargz
    ? await pushEstargz(node.containerd, plain, `${host}/${repository}:estargz`)
    : '';

  const pod = await ColdPod.start(node, handlers.thaw, { cold: true });
  try {
    const imageRef = await pod.pull(lazy, handlers.thaw);
    const containerId = await pod.create({ image: lazy, imageRef, command });
    await node.cri.startContainer(containerId);
    const answer = essence(await firstAnswer(pod.ip, recipe.path));
    const warm = `${host}/${repository}:warm`;
    // As whoever saves a server does: what it takes to answer comes first on other nodes.
    await thaw('checkpoint', containerId, '--image', warm, '--probe', `http://localhost:8080${recipe.path}`);
    const imagesDir = await cold.bed.complete(warm, command);
    const packed = await packCheckpoint(imagesDir, cold.dir);
    const files = await pushImage({
      host,
      repository,
      tag: 'files',
      layers: [...layers, packed],
      command,
      env,
    });
    return { recipe, plain, lazy, unordered, estargz, warm, files, answer };
  } finally {
    await pod.remove();
  }
}
