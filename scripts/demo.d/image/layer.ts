import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress } from 'node:zlib';
import { Code } from '../../../proto/status.ts';
import { DemoError } from '../error.ts';

export interface Layer {
  /** Path of the compressed blob. */
  file: string;
  /** Digest and size of the compressed blob. */
  digest: string;
  size: number;
  /** Digest and size of the tar. */
  diffId: string;
  tarSize: number;
}

export interface LayerSource {
  /** Every file below it goes into the layer, with its mode, numeric owner and extended attributes. */
  root: string;
  /** Seconds since the epoch; later times are set back to it. Earlier ones stay: Python checks .pyc files by them. */
  newest: number;
  /** Paths left out, in tar's patterns, relative to the root. */
  exclude: readonly string[];
  /** Files staged by us belong to root, whoever checked them out. */
  ownedByRoot: boolean;
}

/** Arguments of GNU tar for a layer that is the same whenever the files are. */
export function tarArguments(source: LayerSource): string[] {
  return [
    '--create',
    '--file=-',
    `--directory=${source.root}`,
    '--sort=name',
    '--format=posix',
    // pax headers would otherwise carry tar's process id and the times of reading.
    '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime',
    '--numeric-owner',
    ...(source.ownedByRoot ? ['--owner=0', '--group=0'] : []),
    `--mtime=@${source.newest}`,
    '--clamp-mtime',
    '--xattrs',
    '--xattrs-include=*',
    '--one-file-system',
    '--anchored',
    ...source.exclude.map((pattern) => `--exclude=./${pattern}`),
    '.',
  ];
}

/** Packs a directory into `tar+zstd` below `directory`. Leaves no half-written blob behind. */
export async function makeLayer(source: LayerSource, directory: string): Promise<Layer> {
  await mkdir(directory, { recursive: true });
  const partial = join(directory, `layer.${process.pid}.partial`);
  const tar = spawn('tar', tarArguments(source), { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaints = '';
  tar.stderr.on('data', (text: Buffer) => {
    complaints += text.toString();
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    tar.once('error', reject);
    tar.once('close', resolve);
  });
  const plain = meter();
  const packed = meter();
  try {
    const [code] = await Promise.all([
      ended,
      pipeline(
        tar.stdout,
        plain.stream,
        createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } }),
        packed.stream,
        createWriteStream(partial),
        { signal: AbortSignal.timeout(900_000) },
      ),
    ]);
    if (code !== 0) throw new DemoError(Code.internal, `tar of ${source.root} failed: ${complaints.trim()}`);
    const digest = packed.digest();
    const file = join(directory, digest.replace(':', '-'));
    await rename(partial, file);
    return { file, digest, size: packed.bytes(), diffId: plain.digest(), tarSize: plain.bytes() };
  } finally {
    tar.kill('SIGKILL');
    await rm(partial, { force: true });
  }
}

function meter(): { stream: Transform; digest(): string; bytes(): number } {
  const hash = createHash('sha256');
  let bytes = 0;
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      bytes += chunk.length;
      done(null, chunk);
    },
  });
  return { stream, digest: () => `sha256:${hash.digest('hex')}`, bytes: () => bytes };
}
