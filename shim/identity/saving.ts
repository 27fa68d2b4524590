/**
 * The dump's side: what a container was told at its restore is about that container and does not go into the image, and
 * a workload made for Dynamo Snapshot is asked before and told after.
 */
import { join } from 'node:path';
import { Code, describeError } from '../../proto/status.ts';
import type { DumpInput } from '../task/start-plan.ts';
import { readBeneath, removeBeneath, writeBeneath } from './beneath.ts';
import { CONTEXT_FILE, controlDirectory, READY_FILE, RESTORED_FILE, SAVED_FILE } from './dynamo.ts';
import { IdentityError } from './error.ts';
import { hostPlace } from './place.ts';
import { RESTORE_FILE } from './restore-file.ts';
import { type ContainerFiles, processOwner } from './tell.ts';

type SavedContainer = Pick<DumpInput, 'id' | 'pid' | 'bundle' | 'spec' | 'log'>;

/** Rejects a workload that has not yet said that it stands still. */
export function expectReady({ pid, spec }: SavedContainer, { calls, rootOf }: ContainerFiles): void {
  const control = controlDirectory(spec);
  if (control === undefined) return;
  const place = { root: rootOf(pid), path: join(control, READY_FILE).slice(1) };
  if (readBeneath(place, calls) !== undefined) return;
  throw new IdentityError(
    Code.failedPrecondition,
    `Cannot checkpoint the container yet: it has SNAPSHOT_CONTROL_DIR and has not written "${join(control, READY_FILE)}"; try again when it has`,
  );
}

/** Between dump and file system diff nothing may change, so the rest is done when the container goes on. */
export interface Hidden {
  goOn(outcome: 'dumped' | 'failed'): void;
}

/** Takes the container's files of its own restore out of its root file system. Never throws. */
export function hideTold(input: SavedContainer, { calls, rootOf }: ContainerFiles): Hidden {
  const { id, bundle, spec, log } = input;
  const attempt = <T>(file: string, work: () => T): T | undefined => {
    try {
      return work();
    } catch (error) {
      log.warn({ container: id, file, reason: describeError(error).message }, 'not as it should be');
      return undefined;
    }
  };
  const control = controlDirectory(spec);
  const place = hostPlace(spec, bundle, RESTORE_FILE);
  const content = place && attempt(RESTORE_FILE, () => readBeneath(place, calls));
  const told = place && content && { place, content };
  if (told) attempt(RESTORE_FILE, () => removeBeneath(told.place, calls));
  return {
    goOn(outcome) {
      const owner = processOwner(spec);
      if (told)
        attempt(RESTORE_FILE, () =>
          writeBeneath(told.place, told.content, { ...owner, mode: 0o400 }, true, calls),
        );
      if (control === undefined || outcome === 'failed') return;
      const inContainer = (name: string) => ({
        root: rootOf(input.pid),
        path: join(control, name).slice(1),
      });
      // What a restore has left there is not about this checkpoint.
      for (const name of [RESTORED_FILE, CONTEXT_FILE])
        attempt(name, () => removeBeneath(inContainer(name), calls));
      attempt(SAVED_FILE, () =>
        writeBeneath(inContainer(SAVED_FILE), '', { ...owner, mode: 0o644 }, false, calls),
      );
    },
  };
}
