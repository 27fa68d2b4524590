/** The report of a start as the record that an operator reads. Pure. */
import { RecordKey, type StartRecord } from '../../node-state/start-records.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import type { Outcome, StartReport } from './report.ts';

/** Set by containerd's CRI in each container's spec. Source: pkg/cri/annotations. */
const CRI = 'io.kubernetes.cri.';
/** An API server takes no longer message in an event. */
const MAX_MESSAGE = 1024;

export interface Moment {
  /** Milliseconds since 1970. */
  at: number;
  host: string;
}

/** Undefined for what says nothing new about a start. */
export function recordOf(report: StartReport, spec: OciSpec, { at, host }: Moment): StartRecord | undefined {
  const kind = kindOf(report.outcome);
  if (!kind) return undefined;
  const { namespace, containerId, checkpointId, phase, reason = '', reasons = [], times } = report;
  const involvedObject = objectOf(report, spec);
  const time = new Date(at).toISOString();
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: {
      // As the API's own clients name events: unique, and a DNS subdomain.
      name: `${dnsName(involvedObject.name)}.${BigInt(at).toString(16)}${containerId.slice(0, 8).toLowerCase()}`,
      namespace: involvedObject.namespace,
      annotations: {
        [RecordKey.namespace]: namespace,
        [RecordKey.container]: containerId,
        ...(checkpointId ? { [RecordKey.checkpoint]: checkpointId } : {}),
        [RecordKey.phase]: phase,
        ...(reason ? { [RecordKey.reasons]: JSON.stringify(reasons.length > 0 ? reasons : [reason]) } : {}),
        ...(times ? { [RecordKey.times]: JSON.stringify(rounded(times)) } : {}),
      },
    },
    involvedObject,
    reason: kind.reason,
    message: cut(reason ? `${kind.message}: ${reason}` : kind.message),
    type: kind.type,
    source: { component: 'thaw', host },
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
    reportingComponent: 'thaw.dev/shim',
    reportingInstance: host,
  };
}

function kindOf(outcome: Outcome): Pick<StartRecord, 'reason' | 'type' | 'message'> | undefined {
  switch (outcome) {
    case 'restored':
      return { reason: 'Restored', type: 'Normal', message: 'Restored from its checkpoint' };
    case 'cold':
      return { reason: 'StartedCold', type: 'Warning', message: 'Started cold' };
    case 'failed':
      return {
        reason: 'RestoreFailed',
        type: 'Warning',
        message: 'Started cold after a restore that failed',
      };
    case 'refused':
      return {
        reason: 'RestoreRefused',
        type: 'Warning',
        message: 'Not started, as it wants a restore or nothing',
      };
    case 'lost':
      return {
        reason: 'MemoryLost',
        type: 'Warning',
        message: 'Killed, as its memory could not be had right',
      };
    case 'filled':
      return undefined;
  }
}

function objectOf({ namespace, containerId }: StartReport, spec: OciSpec): StartRecord['involvedObject'] {
  const said = (key: string) => spec.annotations?.[`${CRI}${key}`];
  const name = said('sandbox-name');
  if (!name) return { kind: 'Container', namespace, name: containerId };
  const container = said('container-name');
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    namespace: said('sandbox-namespace') ?? 'default',
    name,
    uid: said('sandbox-uid') ?? '',
    ...(container ? { fieldPath: `spec.containers{${container}}` } : {}),
  };
}

function dnsName(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[^a-z0-9.-]/g, '-')
    .slice(0, 200);
}

function rounded(times: NonNullable<StartReport['times']>): Record<string, number> {
  return Object.fromEntries(Object.entries(times).map(([phase, ms]) => [phase, Math.round(ms)]));
}

function cut(message: string): string {
  return message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE - 1)}…` : message;
}
