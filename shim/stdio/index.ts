/** Streams of container processes: what the client asked for, pipes to runc, bytes moved natively. For the task service. */
export { ProcessIo, type StdioCalls, type StdioOwner } from './process-io.ts';
export type { StdioPaths } from './target.ts';
