/**
 * Framing of CRIU image files: a common magic, the magic of the kind, then messages behind their length, all
 * little-endian. Source: CRIU's magic.h and image-desc.c; inventory.img has its own magic only.
 */
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';

const COMMON_MAGIC = 0x54564319;

/** Magics of the kinds read here. Source: CRIU's magic.h. */
export const Magic = {
  core: 0x55053847,
  utsns: 0x54473203,
  pstree: 0x50273030,
  mm: 0x57492820,
  pagemap: 0x56084025,
  memfdInode: 0x48453499,
  inventory: 0x58313116,
  mountpoints: 0x55563928,
  ipcnsVars: 0x53115007,
  files: 0x56303138,
  fdinfo: 0x56213732,
  remapPath: 0x59133954,
  ids: 0x54432030,
  netns: 0x55933752,
  pidns: 0x61157326,
  cgroup: 0x59383330,
  ghostFile: 0x52583605,
  seccomp: 0x64413049,
} as const;
export type Magic = (typeof Magic)[keyof typeof Magic];

/**
 * The messages of one image file, the first `atMost` of them. Throws dataLoss for a wrong magic or a length that does not
 * fit.
 */
export function readMessages(
  bytes: Uint8Array,
  magic: Magic,
  name: string,
  atMost = Number.POSITIVE_INFINITY,
): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const header = magic === Magic.inventory ? [magic] : [COMMON_MAGIC, magic];
  header.forEach((expected, i) => {
    if (view.byteLength < 4 * (i + 1) || view.getUint32(4 * i, true) !== expected) {
      throw broken(name, 'it does not begin as CRIU images of its kind do');
    }
  });
  const messages: Uint8Array[] = [];
  let at = 4 * header.length;
  while (at < view.byteLength && messages.length < atMost) {
    const end = at + 4 <= view.byteLength ? at + 4 + view.getUint32(at, true) : Number.POSITIVE_INFINITY;
    if (end > view.byteLength) throw broken(name, 'it is cut off');
    messages.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return messages;
}

export function writeMessages(magic: Magic, messages: readonly Uint8Array[]): Buffer {
  const header = Buffer.alloc(magic === Magic.inventory ? 4 : 8);
  if (magic !== Magic.inventory) header.writeUInt32LE(COMMON_MAGIC);
  header.writeUInt32LE(magic, header.length - 4);
  return Buffer.concat([
    header,
    ...messages.flatMap((message) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(message.length);
      return [length, message];
    }),
  ]);
}

export function broken(name: string, why: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    Code.dataLoss,
    `Cannot read "${name}" of the checkpoint: ${why}`,
    cause === undefined ? {} : { cause },
  );
}
