/** runc as a class: command lines, deadlines, errors. For the task service, restore and dump. */
export type { CheckpointOptions, CreateOptions, ExecOptions, RestoreOptions } from './args.ts';
export { type CallOptions, Runc, type RuncConfig } from './runc.ts';
