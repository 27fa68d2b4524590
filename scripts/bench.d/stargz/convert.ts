/** An ordinary image of a registry as eStargz, made by Debian's ctr-remote in containerd's content store. */
import { type Containerd, run } from '../../../test/lib/index.ts';
import { ctrRemoteProgram } from './index.ts';

const NAMESPACE = ['-n', 'estargz'];
const LONG = { timeoutMs: 20 * 60_000 };

/** Pushes it as `to`, and leaves nothing of it on the node. Answers `to`. */
export async function pushEstargz(containerd: Containerd, from: string, to: string): Promise<string> {
  const ctr = (...args: string[]) => containerd.ctr([...NAMESPACE, ...args], LONG);
  await ctr('content', 'fetch', '--plain-http', from);
  const convert = ['images', 'convert', '--estargz', '--oci', from, to];
  await run(ctrRemoteProgram, ['--address', containerd.socket, ...NAMESPACE, ...convert], LONG);
  await ctr('images', 'push', '--local', '--plain-http', to);
  await ctr('images', 'rm', '--sync', from, to);
  return to;
}
