/** Addresses that sockets of a dump are bound to, in files.img: a socket of the old pod's address is the new pod's in a restore. */
import { broken, Magic, readMessages, writeMessages } from './framing.ts';
import { bytesField, readVarint, varintField, type WireField, wireFields } from './wire.ts';

/** Source: CRIU's fdinfo.proto (FileEntry.isk) and sk-inet.proto. */
const FILE_INET_SOCKET = 4;
const SOCKET_FAMILY = 3;
const SOCKET_PROTOCOL = 5;
const SOCKET_STATE = 6;
const SOCKET_SOURCE_PORT = 7;
const SOCKET_SOURCE = 11;
const AF_INET = 2n;
const AF_INET6 = 10n;
const IPPROTO_TCP = 6n;
/** TCP_CLOSE and TCP_LISTEN of the kernel: neither has a peer. */
const ALONE: readonly bigint[] = [7n, 10n];

const NAME = 'files.img';

export interface Rebound {
  /** 4 or 16 bytes. */
  from: Uint8Array;
  to: Uint8Array;
  port: number;
}

export interface ReboundFiles {
  /** Undefined if nothing has to change. */
  bytes: Uint8Array | undefined;
  sockets: Rebound[];
}

/**
 * `choose` gets each address that a socket is bound to, 4 or 16 bytes in network order, and returns the one to bind it to.
 * Only the addresses change; every other byte stays.
 */
export function rebindSockets(files: Uint8Array, choose: (address: Uint8Array) => Uint8Array): ReboundFiles {
  const sockets: Rebound[] = [];
  const messages = readMessages(files, Magic.files, NAME).map((message) => {
    const fields = [...wireFields(message, NAME)];
    if (!fields.some(({ number }) => number === FILE_INET_SOCKET)) return message;
    return Buffer.concat(
      fields.map((field) => {
        if (field.number !== FILE_INET_SOCKET) return field.whole;
        const changed = rebind([...wireFields(field.value, NAME)], choose, sockets);
        return changed ? bytesField(FILE_INET_SOCKET, changed) : field.whole;
      }),
    );
  });
  return { bytes: sockets.length > 0 ? writeMessages(Magic.files, messages) : undefined, sockets };
}

/** Whether a socket was connected by TCP, so that a restore has to be told what to do with it. */
export function hasConnections(files: Uint8Array): boolean {
  for (const message of readMessages(files, Magic.files, NAME))
    for (const { number, value } of wireFields(message, NAME)) {
      if (number !== FILE_INET_SOCKET) continue;
      const scalar = scalarsOf([...wireFields(value, NAME)]);
      if (scalar(SOCKET_PROTOCOL) === IPPROTO_TCP && !ALONE.includes(scalar(SOCKET_STATE))) return true;
    }
  return false;
}

function scalarsOf(fields: readonly WireField[]): (wanted: number) => bigint {
  return (wanted) => {
    const found = fields.findLast(({ number, type }) => number === wanted && type === 0);
    return readVarint(found?.value ?? Uint8Array.of(0), 0, NAME).value;
  };
}

/** Undefined if the address stays. */
function rebind(
  fields: readonly WireField[],
  choose: (address: Uint8Array) => Uint8Array,
  sockets: Rebound[],
): Uint8Array | undefined {
  const scalar = scalarsOf(fields);
  const words = fields.filter((field) => field.number === SOCKET_SOURCE).flatMap(wordsOf);
  const family = scalar(SOCKET_FAMILY);
  const expected = family === AF_INET ? 1 : family === AF_INET6 ? 4 : 0;
  // CRIU reads as many words as the family needs, and refuses the image if there are fewer.
  if (words.length === 0 || expected === 0) return undefined;
  if (words.length < expected) throw broken(NAME, 'a socket has half an address');
  const from = toBytes(words.slice(0, expected));
  const to = choose(from);
  if (to.length !== from.length) throw broken(NAME, 'a socket cannot have an address of another family');
  if (Buffer.compare(from, to) === 0) return undefined;
  sockets.push({ from, to, port: Number(scalar(SOCKET_SOURCE_PORT)) });
  const rest = fields.filter((field) => field.number !== SOCKET_SOURCE).map(({ whole }) => whole);
  return Buffer.concat([...rest, ...toWords(to).map((word) => varintField(SOCKET_SOURCE, word))]);
}

/** One word, or many in the packed form. */
function wordsOf({ type, value }: WireField): bigint[] {
  if (type !== 0 && type !== 2) throw broken(NAME, 'a socket has an address that cannot be decoded');
  const words: bigint[] = [];
  for (let at = 0; at < value.length; ) {
    const word = readVarint(value, at, NAME);
    words.push(BigInt.asUintN(32, word.value));
    at = word.end;
  }
  return words;
}

/** A word is four bytes of the address as they lie in memory, on a little-endian machine. */
function toBytes(words: readonly bigint[]): Uint8Array {
  const bytes = Buffer.alloc(words.length * 4);
  for (const [i, word] of words.entries()) bytes.writeUInt32LE(Number(word), i * 4);
  return bytes;
}

function toWords(bytes: Uint8Array): bigint[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / 4 }, (_, i) => BigInt(view.getUint32(i * 4, true)));
}
