/** The shims that are compared, and how a case says that they differ. */
import { beforeEach, describe } from 'vitest';
import { type ContainerdVersion, containerdVersion } from '../../lib/index.ts';
import { FULL } from './long.ts';

export type PeerName = 'stock' | 'thaw';

export interface Peer {
  name: PeerName;
  /** Of the containerd in this node, which is also the stock shim's. */
  version: ContainerdVersion;
  /** The name by which containerd finds the program. */
  runtime: string;
  program: string;
}

export async function peer(name: PeerName): Promise<Peer> {
  const version = await containerdVersion();
  switch (name) {
    case 'stock':
      return { name, version, runtime: 'io.containerd.runc.v2', program: '/usr/bin/containerd-shim-runc-v2' };
    case 'thaw':
      return {
        name,
        version,
        runtime: 'io.containerd.runc.thaw.v2',
        program: '/opt/thaw/current/bin/containerd-shim-thaw-v2',
      };
  }
}

export interface Differences<T> {
  /** The reason: a containerd release, an issue's number. */
  why: string;
  stock17: T;
  /** 2.1. */
  stock2: T;
  thaw: T;
}

/** What this peer does where they are not alike. */
export function byPeer<T>(peer: Peer, { stock17, stock2, thaw }: Differences<T>): T {
  if (peer.name === 'thaw') return thaw;
  return peer.version === '1.7' ? stock17 : stock2;
}

/** The stock shim only proves the cases; on most days one containerd is enough for that. */
const withoutStock = !FULL && process.env['THAW_NODE'] === 'trixie';

/** Calls `cases` for both shims. */
export function withBoth(cases: (name: PeerName) => void): void {
  // containerd's own shim has races of its own; a case that it passes once is proved. Ours gets no second try.
  if (!withoutStock) describe('stock', { retry: 2 }, () => cases('stock'));
  describe('thaw', { retry: 0 }, () => {
    if (withoutStock)
      beforeEach(({ task }) => {
        task.meta.notRun = 'short form: the cases of containerd’s own shim under containerd 2.1 only';
      });
    cases('thaw');
  });
}
