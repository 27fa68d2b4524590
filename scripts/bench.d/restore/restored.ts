/** One restore, whoever did it: what was asked when, and what became of it. */
import { Code } from '../../../proto/status.ts';
import { BenchError } from '../error.ts';
import { type Answers, type Bed, questions, type Saved } from './bed.ts';
import type { Sampler } from './curve.ts';
import { nowNs, type Outcome, outcome, Probe } from './probe.ts';

/** What is done with a restored worker. */
export interface Plan {
  /** As in probe.cc. An action `go` waits until the restore's own call has returned. */
  actions: readonly string[];
  /** Watches the container's memory meanwhile. */
  sampler?: Sampler;
}

export interface Restored {
  /** When the restore was asked for, and when the call that asked for it returned. Nanoseconds as the probe's. */
  asked: number;
  returned: number;
  outcomes: Outcome[];
}

/** Something that restores a worker: thaw, or a peer. */
export interface Restorer {
  /** From nothing to a restored worker that has done all of the plan, and back to nothing. */
  run(bed: Bed, saved: Saved, plan: Plan): Promise<Restored>;
}

/** A restore that has been prepared. */
export interface Restore {
  /** Where the worker's root file system is, or will be. */
  rootfs: string;
  /** Path of the container's cgroup in every hierarchy. */
  cgroup: string;
  start(): Promise<void>;
}

/** Watches from before the restore is asked for until the plan is done. */
export async function carryOut(restore: Restore, plan: Plan): Promise<Restored> {
  const probe = new Probe(restore.rootfs, plan.actions);
  try {
    const asked = nowNs();
    plan.sampler?.begin(restore.cgroup, asked);
    await restore.start();
    const returned = nowNs();
    probe.go();
    return { asked, returned, outcomes: await probe.outcomes() };
  } finally {
    plan.sampler?.end();
    probe.stop();
  }
}

/** Whoever answers wrong has measured nothing. */
export function check({ outcomes }: Restored, expected: Answers): void {
  for (const action of questions) {
    if (!outcomes.some((candidate) => candidate.action === action)) continue;
    const { value } = outcome(outcomes, action);
    if (value !== expected[action])
      throw new BenchError(
        Code.dataLoss,
        `The restored memory is not that of the checkpoint: the checksum of '${action}' is ${value} instead of ${expected[action]}`,
      );
  }
}
