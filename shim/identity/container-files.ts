import { native } from '../../native/index.ts';
import type { ContainerFiles } from './tell.ts';

/** Those of this machine. */
export const containerFiles: ContainerFiles = { calls: native, rootOf: (pid) => `/proc/${pid}/root` };
