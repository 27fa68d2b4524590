/** Streams of container processes: what the client asked for, pipes to runc, bytes moved natively. For the task service. */
export { type IoDeps, openProcessIo } from './open.ts';
export type { ProcessIo, StdioCalls, StdioOwner } from './process-io.ts';
export { within } from './relays.ts';
export type { StdioPaths } from './target.ts';
