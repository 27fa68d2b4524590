/** The pod's listening socket, which the launcher made (native/launcher/socket.cc). */
import { unlinkSync } from 'node:fs';

/** From here on `start` of another container of the pod finds nobody. */
export function removeSocket(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
