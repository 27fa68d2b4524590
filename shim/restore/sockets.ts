/** Sockets that were bound to the old pod's address get the new pod's, in the image that CRIU reads. */

import { ImageDir } from '../../checkpoint/criu/image-dir.ts';
import { rebindSockets } from '../../checkpoint/criu/inet-sockets.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import {
  type Address,
  addressesV4,
  addressesV6,
  addressHere,
  formatAddress,
  isSameInEveryPod,
} from './pod-addresses.ts';
import type { NamespaceFiles } from './pod-namespaces.ts';

export const FILES_IMAGE = 'files.img';

export interface MovedSockets {
  /** To read in place of the saved image. */
  image: Uint8Array;
  /** "from -> to", one a socket. */
  moved: string[];
}

/** Undefined if no socket has to move, and where the container makes a network of its own: CRIU gives that its addresses. */
export async function movedSockets(
  imagesDir: string,
  spec: OciSpec,
  files: Pick<NamespaceFiles, 'read'>,
): Promise<MovedSockets | undefined> {
  const network = spec.linux?.namespaces?.find(({ type }) => type === 'network')?.path;
  if (!network) return undefined;
  await using images = await ImageDir.open(imagesDir);
  const saved = await images.read(FILES_IMAGE);
  let here: Address[] | undefined;
  const choose = (address: Address) => {
    if (isSameInEveryPod(address)) return address;
    here ??= addressesOf(network, files);
    return addressHere(address, here);
  };
  const { bytes, sockets } = rebindSockets(saved, choose);
  if (!bytes) return undefined;
  const moved = sockets.map(
    ({ from, to, port }) => `${formatAddress(from)} -> ${formatAddress(to)}, port ${port}`,
  );
  return { image: bytes, moved };
}

/** Of the thread that has joined the namespace: /proc/net is that of the process's first thread. */
function addressesOf(network: string, files: Pick<NamespaceFiles, 'read'>): Address[] {
  const read = (name: string) => files.read(`/proc/thread-self/net/${name}`, [network]) ?? '';
  return [...addressesV4(read('fib_trie')), ...addressesV6(read('if_inet6'))];
}
