/**
 * Chain IDs: the name of a stack of layers. chain(d1) = d1; chain(d1…dn) = sha256(chain(d1…dn-1) + " " + dn), where dn
 * are diff IDs. Source: OCI image-spec, config.md, "Layer ChainID".
 */
import { digestOf } from '../checkpoint/digest.ts';

export function chainId(parentChain: string | undefined, diffId: string): string {
  if (!parentChain) return diffId;
  return digestOf(`${parentChain} ${diffId}`);
}

/**
 * The chain ID in a snapshot's name. containerd hands names over as "<namespace>/<sequence>/<client key>", names that a
 * snapshotter chose itself as they are; unpackers take the chain ID as client key.
 */
export function chainOfName(name: string): string | undefined {
  return /(?:^|\/)(sha256:[0-9a-f]{64})$/.exec(name)?.[1];
}
