/** What a node keeps of its starts when their shims are gone: how they went, and what is not tried again. */
import { readFile } from 'node:fs/promises';
import { hostname, release } from 'node:os';
import type { Versions } from '../../checkpoint/host-facts.ts';
import { FailedRestores, type NodeFacts } from '../../node-state/failed-restores.ts';
import { pruneRecords, writeRecord } from '../../node-state/start-records.ts';
import { describeError } from '../../proto/status.ts';
import type { Log } from '../log.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import { recordOf } from './record.ts';
import type { StartReport } from './report.ts';

/** A disk that is full is no reason not to start a container. */
function quietly(write: () => void, log: Log): void {
  try {
    write();
  } catch (error) {
    log.debug({ reason: describeError(error).message }, 'cannot write how the start went');
  }
}

export function tellNode(report: StartReport, spec: OciSpec, log: Log): void {
  const at = Date.now();
  const found = recordOf(report, spec, { at, host: hostname() });
  if (found) quietly(() => writeRecord(found, at), log);
}

export function tidyNode(log: Log): void {
  quietly(() => pruneRecords(), log);
}

export function failuresOfNode(log: Log): Pick<FailedRestores, 'find' | 'add'> {
  const failures = new FailedRestores();
  return {
    find: (checkpoint, shape, node) => failures.find(checkpoint, shape, node),
    add: (failure) => quietly(() => failures.add(failure), log),
  };
}

export async function nodeFacts({ criu, runc }: Versions): Promise<NodeFacts> {
  const read = (file: string) =>
    readFile(file, 'utf8').then(
      (text) => text.trim(),
      () => '',
    );
  const [driver, boot] = await Promise.all([
    read('/sys/module/nvidia/version'),
    read('/proc/sys/kernel/random/boot_id'),
  ]);
  const thaw = process.env['THAW_VERSION'] ?? 'development';
  return { thaw, kernel: release(), criu, runc, driver, boot };
}
