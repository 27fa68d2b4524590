/** Root file systems of containers: mount options, mounting, unmounting. Called by the task service and by restore. */
export type { MountCalls } from './mount-one.ts';
export { mountPointsBelow } from './mountinfo.ts';
export { overlayLayout, parseMountOptions } from './options.ts';
export { mountRootfs, unmountRootfs } from './rootfs.ts';
