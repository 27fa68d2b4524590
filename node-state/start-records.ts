/**
 * How the starts of containers with a checkpoint went on this node: one file a start, in the shape of a Kubernetes event.
 * Written by the shim itself, which knows the reason also where no daemon answers; read by `thaw why`.
 * Source: k8s.io/api core/v1 Event.
 */
import * as z from 'zod/mini';
import { listState, pruneState, readState, writeState } from './files.ts';

export const START_RECORDS_DIR = '/var/lib/thaw/starts';
const MAX_RECORDS = 500;

/** Annotations of a record; values are text, lists are JSON. */
export const RecordKey = {
  namespace: 'thaw.dev/containerd-namespace',
  container: 'thaw.dev/container-id',
  /** Digest of the checkpoint's index. */
  checkpoint: 'thaw.dev/checkpoint',
  phase: 'thaw.dev/phase',
  /** Every reason against a restore. */
  reasons: 'thaw.dev/reasons',
  /** Milliseconds by phase. */
  times: 'thaw.dev/times',
} as const;

const text = z.string().check(z.maxLength(4096));
const recordSchema = z.object({
  apiVersion: z.literal('v1'),
  kind: z.literal('Event'),
  metadata: z.object({ name: text, namespace: text, annotations: z.record(text, z.string()) }),
  involvedObject: z.object({
    apiVersion: z.optional(text),
    kind: text,
    namespace: text,
    name: text,
    uid: z.optional(text),
    fieldPath: z.optional(text),
  }),
  reason: z.enum(['Restored', 'StartedCold', 'RestoreFailed', 'RestoreRefused', 'MemoryLost']),
  message: text,
  type: z.enum(['Normal', 'Warning']),
  source: z.object({ component: z.literal('thaw'), host: text }),
  firstTimestamp: text,
  lastTimestamp: text,
  count: z.int(),
  reportingComponent: text,
  reportingInstance: text,
});
export type StartRecord = z.infer<typeof recordSchema>;

/** `at`: milliseconds since 1970. */
export function writeRecord(record: StartRecord, at: number, dir = START_RECORDS_DIR): void {
  const id = (record.metadata.annotations[RecordKey.container] ?? '')
    .replaceAll(/[^\w.-]/g, '_')
    .slice(0, 100);
  writeState(dir, `${String(at).padStart(14, '0')}-${id}.json`, record);
}

export function pruneRecords(dir = START_RECORDS_DIR): void {
  pruneState(dir, MAX_RECORDS);
}

/** Oldest first; what is no record is left out. */
export function readRecords(dir = START_RECORDS_DIR): StartRecord[] {
  return listState(dir).flatMap((name) => {
    const parsed = recordSchema.safeParse(readState(dir, name));
    return parsed.success ? [parsed.data] : [];
  });
}
