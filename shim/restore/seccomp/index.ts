/**
 * The pod's own seccomp filter for every task of a checkpoint, below those that it has, whatever these say: a filter can only
 * take away.
 */
import type { ImageDir } from '../../../checkpoint/criu/image-dir.ts';
import { NO_FILTERS, putBelow, SECCOMP_IMAGE } from '../../../checkpoint/criu/seccomp-image.ts';
import type { ProcessFilters } from '../../../checkpoint/criu/task-filters.ts';
import { Code } from '../../../proto/status.ts';
import type { OciSpec } from '../../task/oci-spec.ts';
import { RestoreError } from '../error.ts';
import { compileProfile } from './compile.ts';
import { readProfile, SCMP_ARCH } from './profile.ts';

export interface Filters {
  /** For CRIU, in the place of the saved one. */
  image: Buffer;
  /** Of tasks that had none: the number of the one that they get. By task id. */
  given: ReadonlyMap<number, number>;
}

/** Undefined for a pod without a profile. */
export async function podFilters(
  images: ImageDir,
  processes: readonly ProcessFilters[],
  { linux }: OciSpec,
): Promise<Filters | undefined> {
  if (!linux?.seccomp) return undefined;
  const profile = readProfile(linux.seccomp);
  const filter = { program: compileProfile(profile, nativeArchitecture()), flags: profile.flags };
  const hasSome = processes.some(({ last }) => last.length > 0);
  const saved = hasSome ? await images.read(SECCOMP_IMAGE) : NO_FILTERS;
  const { bytes, number } = putBelow(saved, filter, processes);
  const given = processes.flatMap((process) =>
    process.without.map((task) => [task, number(process)] as const),
  );
  return { image: bytes, given: new Map(given) };
}

/** Why a restore cannot give what the pod's profile asks for. */
export function profileObstacles({ linux }: OciSpec): string[] {
  if (!linux?.seccomp) return [];
  try {
    compileProfile(readProfile(linux.seccomp), nativeArchitecture());
    return [];
  } catch (error) {
    if (error instanceof RestoreError) return [error.message];
    throw error;
  }
}

function nativeArchitecture(): string {
  switch (process.arch) {
    case 'x64':
      return SCMP_ARCH.x86_64;
    case 'arm64':
      return SCMP_ARCH.aarch64;
    default:
      throw new RestoreError(Code.unimplemented, `No seccomp filter can be made for ${process.arch}`);
  }
}
