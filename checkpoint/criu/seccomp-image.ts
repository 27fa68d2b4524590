/** The filters of a dump's tasks. A filter of the kernel has one below it, and the strictest answer of all counts. */
import { Writer } from 'protobufjs/minimal.js';
import { criu } from '../../proto/gen/criu-rights.js';
import { decodeOnly, optional } from './decode.ts';
import { broken, Magic, readMessages, writeMessages } from './framing.ts';
import type { ProcessFilters } from './task-filters.ts';

export const SECCOMP_IMAGE = 'seccomp.img';

export interface SeccompFilter {
  /** struct sock_filter of linux/filter.h, one after the other. */
  program: Uint8Array;
  /** SECCOMP_FILTER_FLAG_* of linux/seccomp.h. */
  flags: number;
}

interface Stacked extends SeccompFilter {
  /** Number of the one below. */
  below: number | undefined;
}

const LENGTH_DELIMITED = 2;
/** In SeccompFilter of proto/criu/rights.proto. */
const Field = { filter: 1, prev: 2, flags: 3 } as const;
/** SECCOMP_FILTER_FLAG_TSYNC: for all threads of the process. */
const SHARED = 1;

/** Of a dump whose tasks have none. */
export const NO_FILTERS: Uint8Array = writeFilters([]);

/** Programs that no other one is below: those that the tasks had first. */
export function lowestFilters(image: Uint8Array): Uint8Array[] {
  return readFilters(image).flatMap(({ below, program }) => (below === undefined ? [program] : []));
}

export interface FilteredImage {
  bytes: Buffer;
  /** Number of the filter for a task that has no other. */
  number(process: Pick<ProcessFilters, 'isShared'>): number;
}

/**
 * The image with a filter below those of all tasks. Where it is in a dump already, at any place as CRIU turns the order
 * round with each restore, it is not doubled.
 *
 * The flag that makes threads share their filters is set for all of a process or for none: where a thread has others the kernel
 * answers a call with it by a thread's id, installs nothing, and CRIU takes that for a success.
 *
 * Throws dataLoss for filters that are not there, are below themselves (CRIU would follow them for ever), or are those of
 * processes that share them among their threads and of others that do not.
 */
export function putBelow(
  image: Uint8Array,
  filter: SeccompFilter,
  processes: readonly ProcessFilters[],
): FilteredImage {
  const filters = readFilters(image);
  const shared = usedBy(filters, processes);
  const isIt = ({ program, flags }: SeccompFilter) =>
    (flags & ~SHARED) === (filter.flags & ~SHARED) && Buffer.compare(program, filter.program) === 0;
  const flagsOf = (flags: number, isShared: boolean) => (isShared ? flags | SHARED : flags & ~SHARED);
  /** Numbers of it, for those who share and for those who do not. */
  const own = (isShared: boolean) => filters.length + (isShared ? 1 : 0);
  const stacked = filters.map((one, number): Stacked => {
    const isShared = shared.get(number);
    // No task has it.
    if (isShared === undefined) return one;
    // What is there without it; the number, which tasks name, stays.
    let rest = one;
    while (isIt(rest) && rest.below !== undefined) rest = filters[rest.below] ?? rest;
    return {
      program: rest.program,
      flags: flagsOf(rest.flags, isShared),
      below: rest.below ?? (isIt(rest) ? undefined : own(isShared)),
    };
  });
  const it = [false, true].map((isShared) => ({
    ...filter,
    flags: flagsOf(filter.flags, isShared),
    below: undefined,
  }));
  return {
    bytes: writeFilters([...stacked, ...it]),
    number: ({ isShared }) => own(isShared),
  };
}

function readFilters(image: Uint8Array): Stacked[] {
  const messages = readMessages(image, Magic.seccomp, SECCOMP_IMAGE);
  const { seccompFilters } = decodeOnly(criu.SeccompFilters, messages, SECCOMP_IMAGE);
  return (seccompFilters ?? []).map((filter) => ({
    program: filter.filter,
    below: optional(filter, 'prev'),
    flags: filter.flags ?? 0,
  }));
}

/** Filters that tasks have, by number, and whether with their threads. */
function usedBy(
  filters: readonly Stacked[],
  processes: readonly ProcessFilters[],
): ReadonlyMap<number, boolean> {
  const used = new Map<number, boolean>();
  for (const { last, isShared } of processes)
    for (const first of last) {
      const above = new Set<number>();
      let at: number | undefined = first;
      // What is below one that was met is used in the same way.
      while (at !== undefined && !used.has(at)) {
        const one: Stacked | undefined = filters[at];
        if (!one) throw broken(SECCOMP_IMAGE, 'a filter is above one that is not there');
        if (above.has(at)) throw broken(SECCOMP_IMAGE, 'a filter is below itself');
        above.add(at);
        at = one.below;
      }
      if (at !== undefined && used.get(at) !== isShared)
        throw broken(SECCOMP_IMAGE, 'a filter is one of all threads, and of a single one');
      for (const number of above) used.set(number, isShared);
    }
  return used;
}

function writeFilters(filters: readonly Stacked[]): Buffer {
  const writer = Writer.create();
  for (const { program, below, flags } of filters) {
    writer.uint32((1 << 3) | LENGTH_DELIMITED).fork();
    writer.uint32((Field.filter << 3) | LENGTH_DELIMITED).bytes(program);
    if (below !== undefined) writer.uint32(Field.prev << 3).uint32(below);
    if (flags !== 0) writer.uint32(Field.flags << 3).uint32(flags);
    writer.ldelim();
  }
  return writeMessages(Magic.seccomp, [writer.finish()]);
}
