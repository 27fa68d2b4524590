/** Root file systems of containers: mount options, mounting, unmounting. Called by the task service and by restore. */
export { mountPointsBelow } from './mountinfo.ts';
export { overlayLayout, parseMountOptions } from './options.ts';
export { type MountCalls, mountRootfs, unmountRootfs } from './rootfs.ts';
