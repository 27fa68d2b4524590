/**
 * A typed client of containerd's CRI plug-in, and the pod and container configurations a kubelet sends.
 * For tests and the demo; nothing that is shipped imports it.
 */
export { CriClient } from './client.ts';
export { CriError } from './error.ts';
export { type ContainerOptions, containerConfig, type PodOptions, podCgroup, podConfig } from './kubelet.ts';
export type * from './messages.ts';
