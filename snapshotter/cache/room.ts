/** Which checkpoints have to leave the node cache for another. Pure. */
export interface Tenant {
  id: string;
  /** Bytes of disk it takes, or will when it is complete. */
  bytes: bigint;
  /** Milliseconds since 1970. */
  lastUsed: number;
}

/** Bytes that `newcomer` lacks among `others` below `limit`; 0n or less if there is room. */
export function lacking(newcomer: Tenant, others: readonly Tenant[], limit: bigint): bigint {
  return others.reduce((sum, { bytes }) => sum + bytes, newcomer.bytes) - limit;
}

/** Least recently used first. */
export function byLastUse(tenants: readonly Tenant[]): string[] {
  return tenants.toSorted((a, b) => a.lastUsed - b.lastUsed).map(({ id }) => id);
}
