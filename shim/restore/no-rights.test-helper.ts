import type { ImageRights } from '../../checkpoint/criu/image-rights.ts';
import type { Grants } from './grants.ts';

/** Of images that ask for nothing. */
export const noRights: ImageRights = {
  tasks: [],
  processes: [],
  filters: [],
  namespaces: { outside: {}, root: {}, others: [], netKeys: [], pidKeys: [] },
  mounts: [],
  objects: {
    plugins: [],
    strayCgroups: [],
    deviceFiles: [],
    fileTypes: new Set(),
    hasRawSockets: false,
    inheritedDescriptors: 0,
  },
};

export async function grantsOf(spec: Grants['spec']): Promise<Grants> {
  return {
    spec,
    hardLimits: [],
    oomScoreAdj: 0,
    loginUid: 0,
    nice: 0,
    ownLabel: undefined,
    hiddenPaths: new Set(),
    resolve: (path) => path,
  };
}
