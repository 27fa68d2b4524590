/**
 * Workloads made for NVIDIA Dynamo Snapshot: files in a directory that an environment variable names say when the workload
 * can be saved, and when it may go on. Source: ai-dynamo/snapshot docs/reference/workload-contract.md; ai-dynamo/dynamo
 * common/snapshot/restore_context.py.
 */
import { posix } from 'node:path';
import type { OciSpec } from '../task/oci-spec.ts';
import { environment } from './restore-file.ts';

/** Written by the workload: it stands still and may be saved. */
export const READY_FILE = 'ready-for-snapshot';
/** Written for the workload: it was saved and goes on in its own container. */
export const SAVED_FILE = 'snapshot-complete';
/** Written for the workload: it was restored. */
export const RESTORED_FILE = 'restore-complete';
/** Written before that one: the environment of the container that it was restored in. */
export const CONTEXT_FILE = 'restore-context.json';

/** The second is the name that Dynamo's releases before it read. */
const VARIABLES = ['SNAPSHOT_CONTROL_DIR', 'DYN_SNAPSHOT_CONTROL_DIR'];

/** Absolute, in the container. Undefined for other workloads. */
export function controlDirectory(spec: OciSpec): string | undefined {
  const env = environment(spec.process?.env ?? []);
  const named = VARIABLES.map((name) => env[name]).find((value) => value !== undefined && value !== '');
  return named?.startsWith('/') ? posix.normalize(named).replace(/(?<=.)\/$/, '') : undefined;
}

export function restoreContext(spec: OciSpec): string {
  return `${JSON.stringify({ env: environment(spec.process?.env ?? []) })}\n`;
}
