/**
 * CRIU's configuration file of one container, named by the `org.criu.config` annotation that the shim puts into the
 * bundle. CRIU reads it last, so it overrides what runc asks for by RPC, and it is the only way to options that runc
 * has no flag for. A restore-only word breaks a dump and the other way round: the file is written anew for each.
 */

/** Largest unlinked file that may be carried inside the checkpoint. CRIU keeps the limit in 32 bits. */
const GHOST_LIMIT_BYTES = 1024 ** 3;

const CLOSED_CONNECTIONS = [
  // Connections belong to the old pod's address: they are closed, listening sockets stay.
  'tcp-close',
  // The default runs iptables in the pod's network namespace. With tcp-close there is no connection to protect.
  'network-lock skip',
];

const DUMP = [
  // A connection that nobody has accepted yet cannot be saved, and without this word CRIU refuses to dump. The source
  // accepts it once it goes on; a copy never sees it.
  'skip-in-flight',
  // Seconds to stop all tasks, which takes milliseconds, or for ever: where one was frozen between vfork and exec its
  // parent cannot be stopped. Who asked tries again.
  'timeout 5',
];

/** CRIU keeps another name of an open file whose own was removed, where the file has others. */
const LINK_REMAP = 'link-remap';

export interface DumpConf {
  /** Established connections are saved, and CRIU locks the network meanwhile. */
  openTcp: boolean;
  /** See shim/shm/links.ts. */
  linkRemap: boolean;
  /** Mount points that are not saved, and not made again: see shim/nvidia-mounts.ts. */
  skippedMounts: readonly string[];
}

export function dumpConf({ openTcp, linkRemap, skippedMounts }: DumpConf): string {
  return lines([
    ...(openTcp ? [] : CLOSED_CONNECTIONS),
    ...(linkRemap ? [LINK_REMAP] : []),
    ...DUMP,
    ...skippedMounts.map((point) => `skip-mnt ${point}`),
    `ghost-limit ${GHOST_LIMIT_BYTES}`,
  ]);
}

export function restoreConf(): string {
  return lines(CLOSED_CONNECTIONS);
}

function lines(words: readonly string[]): string {
  return `${words.join('\n')}\n`;
}
