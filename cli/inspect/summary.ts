import type { ChunkCodec } from '../../checkpoint/chunk-table.ts';
import type { CheckpointFacts } from '../../checkpoint/facts.ts';
import type { CheckpointIndex } from '../../checkpoint/index-format.ts';
import {
  formatBytes,
  formatPairs,
  formatRatio,
  formatShare,
  formatTable,
  printable,
  shortDigest,
} from '../ui/format.ts';
import type { OpenCheckpoint } from './open.ts';

export interface Sizes {
  files: number;
  chunks: number;
  /** Compressed chunk bytes, as the data layers hold them. */
  storedBytes: number;
  /** The same decoded. */
  decodedBytes: number;
  /** Bytes of the files that are zero and therefore not stored. */
  zeroBytes: number;
  /** The chunks of each codec that there is, and their stored bytes. */
  codecs: Partial<Record<ChunkCodec, { chunks: number; storedBytes: number }>>;
}

export function sizesOf(index: CheckpointIndex): Sizes {
  let [storedBytes, decodedBytes, fileBytes] = [0, 0, 0];
  for (const { chunks, size } of index.files) {
    storedBytes += chunks.storedBytes();
    decodedBytes += chunks.decodedBytes();
    fileBytes += Number(size);
  }
  const zeroBytes = fileBytes - decodedBytes;
  const codecs = codecsOf(index);
  return {
    files: index.files.length,
    chunks: index.chunkCount,
    storedBytes,
    decodedBytes,
    zeroBytes,
    codecs,
  };
}

function codecsOf(index: CheckpointIndex): Sizes['codecs'] {
  const codecs: Sizes['codecs'] = {};
  for (const { chunks: table } of index.files)
    for (let i = 0; i < table.count; i++) {
      const codec = table.codec(i);
      const { chunks, storedBytes } = codecs[codec] ?? { chunks: 0, storedBytes: 0 };
      codecs[codec] = { chunks: chunks + 1, storedBytes: storedBytes + table.storedLength(i) };
    }
  return codecs;
}

/** For `--json`: everything, in the words of the format. */
export function summaryJson(checkpoint: OpenCheckpoint): object {
  const { source, image, indexDigest, indexBytes, index, facts } = checkpoint;
  return {
    source,
    ...(image ? { digest: image.digest, layers: image.layers } : {}),
    index: {
      digest: indexDigest,
      bytes: indexBytes,
      accessOrderRecorded: index.accessOrder.length > 0,
      layerReads: index.layerReads.map(({ layer, frames }) => ({ layer, frames: frames.length })),
      dataLayers: index.dataLayers,
    },
    sizes: sizesOf(index),
    files: index.files.map(({ name, size, chunks }) => ({
      name,
      size,
      storedBytes: chunks.storedBytes(),
      decodedBytes: chunks.decodedBytes(),
      chunks: chunks.count,
    })),
    facts,
  };
}

export function summaryLines(checkpoint: OpenCheckpoint): string[] {
  const { index, facts } = checkpoint;
  const sizes = sizesOf(index);
  const { launch, host } = facts;
  return [
    ...formatPairs([
      ['Checkpoint', printable(checkpoint.source)],
      ...(checkpoint.image ? ([['Digest', checkpoint.image.digest]] as const) : []),
      ['Index', `${checkpoint.indexDigest} (${formatBytes(checkpoint.indexBytes)})`],
      ['Taken', `${facts.created} from ${printable(facts.image.reference)}`],
      ['Verified', facts.verified ? 'restored once where it was made' : 'no'],
      ['Memory', formatBytes(facts.memoryBytes)],
      ['Stored', `${formatBytes(sizes.storedBytes)} in ${sizes.chunks} chunks of ${sizes.files} files`],
      [
        'Codecs',
        Object.entries(sizes.codecs)
          .map(([codec, { chunks, storedBytes }]) => `${codec} ${formatBytes(storedBytes)} in ${chunks}`)
          .join(', '),
      ],
      [
        'Decoded',
        `${formatBytes(sizes.decodedBytes)}, ${formatRatio(sizes.decodedBytes, sizes.storedBytes)} smaller`,
      ],
      [
        'Zero',
        `${formatBytes(sizes.zeroBytes)} left out (${formatShare(sizes.zeroBytes, sizes.zeroBytes + sizes.decodedBytes)})`,
      ],
      ['Host', printable(`linux/${host.arch}, kernel ${host.kernel}, cgroup ${host.cgroup}`)],
      ['Made by', printable(`criu ${host.criu}, runc ${host.runc}`)],
      ['CPU', `${host.cpuFlags.length} features`],
    ]),
    '',
    'Launch (another command, user or environment starts cold)',
    ...indent(
      formatPairs([
        ['command', printable(launch.args.map(quoted).join(' '))],
        ['directory', printable(launch.cwd)],
        ['user', [`${launch.uid}:${launch.gid}`, ...launch.additionalGids].join(' ')],
        ['environment', `${launch.env.length} variables (--json shows them)`],
      ]),
    ),
    '',
    'Processes',
    ...indent(processTree(facts.processes)),
    '',
    'Mounts',
    ...indent(
      formatTable(
        ['DESTINATION', 'TYPE', 'ACCESS'],
        facts.mounts.map((mount) => [
          printable(mount.destination),
          printable(mount.type),
          mount.readOnly ? 'read-only' : 'read-write',
        ]),
      ),
    ),
    ...layerLines(checkpoint),
  ];
}

function layerLines({ image, facts }: OpenCheckpoint): string[] {
  const rows = image
    ? image.layers.map(({ kind, digest, mediaType, size }) => [
        kind,
        shortDigest(digest),
        formatBytes(size),
        mediaType,
      ])
    : [
        ...facts.layers.base.map((layer) => [
          'base',
          shortDigest(layer.digest),
          formatBytes(layer.size),
          layer.mediaType,
        ]),
        ...(facts.layers.diff
          ? [
              [
                'diff',
                shortDigest(facts.layers.diff.digest),
                formatBytes(facts.layers.diff.size),
                facts.layers.diff.mediaType,
              ],
            ]
          : []),
      ];
  const safe = rows.map((row) => row.map(printable));
  return ['', 'Layers, bottom first', ...indent(formatTable(['KIND', 'DIGEST', 'SIZE>', 'TYPE'], safe))];
}

/** Children below their parents; what names a parent that is not there is a root. */
export function processTree(processes: CheckpointFacts['processes']): string[] {
  const ids = new Set(processes.map(({ pid }) => pid));
  const children = Map.groupBy(processes, ({ ppid }) => ppid);
  const seen = new Set<number>();
  const lines: string[] = [];
  // A stack instead of recursion, and each pid once: the facts are untrusted and may be a loop or very deep.
  const visit = (roots: typeof processes) => {
    const stack = roots.toReversed().map((process) => ({ process, depth: 0 }));
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      const { process, depth } = next;
      if (seen.has(process.pid)) continue;
      seen.add(process.pid);
      const threads = process.threads === 1 ? '1 thread' : `${process.threads} threads`;
      lines.push(`${'  '.repeat(Math.min(depth, 20))}${process.pid} ${printable(process.comm)} (${threads})`);
      const below = children.get(process.pid) ?? [];
      for (const child of below.toReversed()) stack.push({ process: child, depth: depth + 1 });
    }
  };
  visit(processes.filter(({ ppid, pid }) => !ids.has(ppid) || ppid === pid));
  visit(processes.filter(({ pid }) => !seen.has(pid)));
  return lines;
}

function quoted(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}

function indent(lines: string[]): string[] {
  return lines.map((line) => `  ${line}`);
}
