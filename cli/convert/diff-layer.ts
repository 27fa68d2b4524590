/** An archive's root file system changes as a layer of an image, and the other way. */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { extract, pack } from 'tar-stream';
import { TAR_END_BYTES } from '../../checkpoint/tar-header.ts';
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';
import { openMaybeCompressed } from './read-archive.ts';

/** Source: OCI image-spec, "Whiteouts". */
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

export interface DiffTar {
  digest: string;
  size: number;
}

/**
 * Writes one uncompressed tar: whiteouts of what was deleted (Podman and CRI-O list it beside their tar), then `source` as it
 * is. What is hidden in a layer is only what lies below, so the order does not matter. Undefined if there is nothing in it.
 */
export async function writeDiffLayer(
  source: string | undefined,
  deleted: readonly string[],
  target: string,
  signal: AbortSignal,
): Promise<DiffTar | undefined> {
  // containerd unpacks no whiteout twice.
  const there = new Set(source !== undefined && deleted.length > 0 ? await deletedBy(source, signal) : []);
  const head = await whiteouts(deleted.filter((path) => !there.has(join('/', path))));
  const hash = createHash('sha256');
  let size = 0;
  let content = head.length > 0;
  const bytes = async function* () {
    if (head.length > 0) yield head;
    if (source !== undefined)
      for await (const part of (await openMaybeCompressed(source, signal)) as AsyncIterable<Buffer>) {
        content ||= part.some((byte) => byte !== 0);
        yield part;
      }
    else yield Buffer.alloc(TAR_END_BYTES);
  };
  const counted = async function* () {
    for await (const part of bytes()) {
      hash.update(part);
      size += part.length;
      yield part;
    }
  };
  await pipeline(counted, createWriteStream(target, { flags: 'wx', mode: 0o600 }), { signal });
  return content ? { digest: `sha256:${hash.digest('hex')}`, size } : undefined;
}

/** Entries alone, without the end of an archive. */
async function whiteouts(deleted: readonly string[]): Promise<Buffer> {
  if (deleted.length === 0) return Buffer.alloc(0);
  const tar = pack();
  const parts: Buffer[] = [];
  const reading = (async () => {
    for await (const part of tar as AsyncIterable<Buffer>) parts.push(part);
  })();
  for (const path of deleted) {
    const name = path.replace(/^\/+/, '').replace(/\/+$/, '');
    if (name === '' || name.split('/').some((part) => part === '..' || part === '.' || part === ''))
      throw new CliError(
        Code.dataLoss,
        `Cannot trust the archive: ${JSON.stringify(path.slice(0, 100))} was deleted`,
      );
    tar.entry(
      { name: join(dirname(name), `${WHITEOUT}${basename(name)}`), mode: 0o600, mtime: new Date(0) },
      '',
    );
  }
  tar.finalize();
  await reading;
  const all = Buffer.concat(parts);
  return all.subarray(0, all.length - TAR_END_BYTES);
}

/** What a layer deletes, as paths from the root. */
export async function deletedBy(path: string, signal: AbortSignal): Promise<string[]> {
  const deleted: string[] = [];
  const tar = extract();
  const feeding = openMaybeCompressed(path, signal).then((source) => pipeline(source, tar, { signal }));
  feeding.catch((error: unknown) => tar.destroy(error instanceof Error ? error : undefined));
  for await (const entry of tar) {
    const name = entry.header.name.replace(/^(\.?\/)+/, '');
    const file = basename(name);
    if (file.startsWith(WHITEOUT) && file !== OPAQUE)
      deleted.push(join('/', dirname(name), file.slice(WHITEOUT.length)));
    for await (const _ of entry);
  }
  await feeding;
  return deleted;
}
