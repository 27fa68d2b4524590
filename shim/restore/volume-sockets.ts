/**
 * Unix sockets that CRIU binds in volumes: a restore that fails leaves them there, and a server that is started cold then finds
 * its address in use.
 */
import { lstat, unlink } from 'node:fs/promises';
import { ImageDir } from '../../checkpoint/criu/image-dir.ts';
import { socketPaths } from '../../checkpoint/criu/unix-sockets.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import { inVolume, placeOf } from './open-files.ts';
import { FILES_IMAGE } from './sockets.ts';

export interface VolumeSockets {
  /** Removes those that were not there when they were looked for. */
  takeAway(): Promise<void>;
}

/** To be asked before CRIU runs. */
export async function volumeSockets(imagesDir: string, { mounts = [] }: OciSpec): Promise<VolumeSockets> {
  await using images = await ImageDir.open(imagesDir);
  const places = socketPaths(await images.read(FILES_IMAGE)).flatMap((path) => {
    const place = placeOf({ path }, mounts);
    return place && place.path !== '' ? [place] : [];
  });
  const found = await Promise.all(places.map((place) => inVolume(place, isSocket)));
  const missing = places.filter((_, i) => !found[i]);
  return {
    async takeAway() {
      for (const place of missing)
        await inVolume(place, async (path) => {
          if (await isSocket(path)) await unlink(path);
        });
    },
  };
}

async function isSocket(path: string): Promise<boolean> {
  return (await lstat(path)).isSocket();
}
