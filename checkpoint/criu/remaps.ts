/** Open files of a dump that had lost their names: where CRIU made another name for one, it opens it by that. */
import { criu } from '../../proto/gen/criu-dump.js';
import { decodeMessage } from './decode.ts';
import { readFiles } from './files.ts';
import { broken, Magic, readMessages } from './framing.ts';
import type { ImageDir } from './image-dir.ts';

export interface LinkedRemap {
  /** What the file was opened as; absolute, as seen from the container's root. */
  name: string;
  /** The name that CRIU made. */
  remap: string;
}

const IMAGE = 'remap-fpath.img';
/** Source: CRIU's remap-file-path.proto. */
const LINKED = 0;

async function readRemaps(images: ImageDir): Promise<criu.dump.RemapPath[]> {
  if (!(await images.names()).includes(IMAGE)) return [];
  return readMessages(await images.read(IMAGE), Magic.remapPath, IMAGE).map((message) =>
    decodeMessage(criu.dump.RemapPath, message, IMAGE),
  );
}

/** Ids of files that CRIU does not look for by their own names. */
export async function readRemappedFiles(images: ImageDir): Promise<Set<number>> {
  return new Set((await readRemaps(images)).map(({ origId }) => origId));
}

export async function readLinkedRemaps(images: ImageDir): Promise<LinkedRemap[]> {
  const linked = (await readRemaps(images)).filter(({ remapType }) => remapType === LINKED);
  if (linked.length === 0) return [];
  const paths = new Map(readFiles(await images.read('files.img')).map(({ id, path }) => [id, path]));
  const pathOf = (id: number) => {
    const path = paths.get(id);
    if (path === undefined) throw broken(IMAGE, 'it names a file that is not there');
    // CRIU leaves the first slash out of some.
    return path.startsWith('/') ? path : `/${path}`;
  };
  return linked.map(({ origId, remapId }) => ({ name: pathOf(origId), remap: pathOf(remapId) }));
}
