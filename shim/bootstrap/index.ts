/** How containerd runs a shim program: flags, `start`, `delete`, `-info`. Called by shim/main.ts alone. */
export { parseFlags, requireContainer, type ShimFlags } from './flags.ts';
