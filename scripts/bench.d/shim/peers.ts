import type { Side } from '../alternate.ts';

/** Names of runtimes, which decide what program containerd starts; the default options for both. */
export const runtimes: Record<Side, string> = {
  ours: 'io.containerd.runc.thaw.v2',
  peer: 'io.containerd.runc.v2',
};

export const peerName = 'runc-v2';
