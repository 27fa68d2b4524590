import { digestOf } from './digest.ts';

/**
 * Chain ID of a stack of layers, bottom first: chain(d1) = d1, chain(d1 … dn) = SHA-256(chain(d1 … dn-1) + " " + dn).
 * Source: OCI image-spec, config.md, "Layer ChainID". Undefined for no layers.
 */
export function chainId(diffIds: readonly string[]): string | undefined {
  return chainIds(diffIds).at(-1);
}

/** The chain ID of every prefix of the stack: element i stands for layers 0 to i. */
export function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : digestOf(`${below} ${diffId}`));
  }
  return chain;
}
