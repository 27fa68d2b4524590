/** Gives the task of a core image other limits and a seccomp filter. What is not known here of its other fields stays as it is, byte for byte. */
import { Reader, Writer } from 'protobufjs/minimal.js';
import { broken, Magic, readMessages, writeMessages } from './framing.ts';
import type { Rlimit } from './task-rights.ts';

/** Of Core, TaskCore and ThreadCore in proto/criu/rights.proto. */
const Field = {
  tc: 3,
  rlimits: 8,
  oomScoreAdj: 14,
  threadCore: 5,
  seccompMode: 11,
  seccompFilter: 12,
} as const;
const LENGTH_DELIMITED = 2;
/** SECCOMP_MODE_FILTER */
const FILTERED = 2;

export interface ProcessLimits {
  /** By RLIMIT_* number. */
  rlimits?: readonly Rlimit[] | undefined;
  oomScoreAdj?: number | undefined;
}

export interface TaskFit extends ProcessLimits {
  /** The last one, by number in the image of all. */
  seccompFilter?: number | undefined;
}

export function fitCore(
  bytes: Uint8Array,
  name: string,
  { rlimits, oomScoreAdj, seccompFilter }: TaskFit,
): Buffer {
  const [core, ...rest] = readMessages(bytes, Magic.core, name);
  if (!core || rest.length > 0) throw broken(name, 'it holds not exactly one entry');
  const ofProcess = new Map<number, Uint8Array>();
  if (rlimits)
    ofProcess.set(
      Field.rlimits,
      encoded((writer) => writeRlimits(writer, rlimits)),
    );
  if (oomScoreAdj !== undefined)
    ofProcess.set(
      Field.oomScoreAdj,
      encoded((writer) => writer.uint32(Field.oomScoreAdj << 3).int32(oomScoreAdj)),
    );
  const ofThread = new Map<number, Uint8Array>();
  if (seccompFilter !== undefined)
    for (const [field, value] of [
      [Field.seccompMode, FILTERED],
      [Field.seccompFilter, seccompFilter],
    ] as const)
      ofThread.set(
        field,
        encoded((writer) => writer.uint32(field << 3).uint32(value)),
      );
  const parts = new Map<number, Uint8Array>();
  for (const [part, fields] of [
    [Field.tc, ofProcess],
    [Field.threadCore, ofThread],
  ] as const) {
    if (fields.size === 0) continue;
    const message = onlyField(core, part, name);
    if (!message) throw broken(name, 'it says nothing about its process');
    const fitted = replaceFields(message, fields, name);
    parts.set(
      part,
      encoded((writer) => writer.uint32((part << 3) | LENGTH_DELIMITED).bytes(fitted)),
    );
  }
  return writeMessages(Magic.core, [replaceFields(core, parts, name)]);
}

function encoded(write: (writer: Writer) => void): Uint8Array {
  const writer = Writer.create();
  write(writer);
  return writer.finish();
}

function writeRlimits(writer: Writer, rlimits: readonly Rlimit[]): void {
  writer.uint32((Field.rlimits << 3) | LENGTH_DELIMITED).fork();
  for (const { soft, hard } of rlimits)
    writer
      .uint32((1 << 3) | LENGTH_DELIMITED)
      .bytes(Buffer.concat([[1 << 3], varint(soft), [2 << 3], varint(hard)].map(Buffer.from)));
  writer.ldelim();
}

/** An unsigned 64-bit value exactly, with or without the package `long`. */
function varint(value: bigint): number[] {
  const bytes: number[] = [];
  let left = value;
  for (; left > 0x7fn; left >>= 7n) bytes.push(Number(left & 0x7fn) | 0x80);
  return [...bytes, Number(left)];
}

/** Calls back for each field with its number and where it begins, its content begins, and it ends. */
function walk(
  message: Uint8Array,
  name: string,
  visit: (field: number, begin: number, end: number, content: Uint8Array) => void,
): void {
  try {
    const reader = Reader.create(message);
    while (reader.pos < reader.len) {
      const begin = reader.pos;
      const tag = reader.uint32();
      const wireType = tag & 7;
      const content = wireType === LENGTH_DELIMITED ? reader.bytes() : new Uint8Array();
      if (wireType !== LENGTH_DELIMITED) reader.skipType(wireType);
      visit(tag >>> 3, begin, reader.pos, content);
    }
  } catch (cause) {
    throw broken(name, 'its entry cannot be decoded', cause);
  }
}

/** protobuf merges a message field that is there twice; a dump has none of that, and a forged image is not to be guessed at. */
function onlyField(message: Uint8Array, wanted: number, name: string): Uint8Array | undefined {
  let found: Uint8Array | undefined;
  walk(message, name, (field, _begin, _end, content) => {
    if (field !== wanted) return;
    if (found) throw broken(name, 'it describes its process twice');
    found = content;
  });
  return found;
}

/** `fields`: whole fields, tags included, by number. They take the place of those that are there. */
function replaceFields(
  message: Uint8Array,
  fields: ReadonlyMap<number, Uint8Array>,
  name: string,
): Uint8Array {
  const parts: Uint8Array[] = [];
  walk(message, name, (field, begin, end) => {
    if (!fields.has(field)) parts.push(message.subarray(begin, end));
  });
  return Buffer.concat([...parts, ...fields.values()]);
}
