/**
 * What kind of container is restored, whichever pod it is in: a restore that failed in one kind may work in another, and
 * must not be tried again in the same. Pure.
 */
import { createHash } from 'node:crypto';
import type { AfterRestore } from '../../checkpoint/facts.ts';
import type { OciSpec } from '../task/oci-spec.ts';

/** Digest of what the container is allowed, given and to do after its restore, without names, addresses and paths of its pod. */
export function shapeOf(
  { process = {}, mounts = [], linux = {}, root }: OciSpec,
  after: AfterRestore = {},
): string {
  const { user, capabilities, noNewPrivileges, rlimits, apparmorProfile, terminal } = process;
  const { namespaces = [], devices, seccomp, maskedPaths, readonlyPaths, resources } = linux;
  const shape = {
    process: { user, capabilities, noNewPrivileges, rlimits, apparmorProfile, terminal },
    root: root?.readonly ?? false,
    mounts: mounts.map(({ destination, type, options }) => [destination, type, options]),
    namespaces: namespaces.map(({ type, path }) => [type, path !== undefined && path !== '']),
    linux: { devices, seccomp, maskedPaths, readonlyPaths, memory: resources?.memory?.limit },
    after,
  };
  return createHash('sha256').update(JSON.stringify(shape)).digest('hex');
}
