/** How the launcher runs the server: its command line and its socket. Called by shim/main.ts and shim/serve.ts. */
export { parseFlags, type ShimFlags } from './flags.ts';
export { removeSocket } from './socket.ts';
