/**
 * Messages of containerd.services.snapshots.v1 as proto-loader gives and takes them, and what they mean here.
 * Source: containerd, api/services/snapshots/v1/snapshots.proto.
 */
import type { Mount } from '../overlay/index.ts';
import type { Kind, Labels, SnapshotInfo } from '../store/index.ts';

export interface TimestampMessage {
  seconds: string;
  nanos: number;
}

export interface InfoMessage {
  name: string;
  parent: string;
  kind: number;
  createdAt: TimestampMessage | null;
  updatedAt: TimestampMessage | null;
  labels: Labels;
}

export interface CreateRequest {
  key: string;
  parent: string;
  labels: Labels;
}
export interface CommitRequest {
  name: string;
  key: string;
  labels: Labels;
  parent: string;
}
export interface UpdateRequest {
  info: InfoMessage | null;
  updateMask: { paths: string[] } | null;
}
export interface KeyRequest {
  key: string;
}
export interface ListRequest {
  filters: string[];
}

export interface MountsResponse {
  mounts: Mount[];
}
export interface InfoResponse {
  info: InfoMessage;
}
export interface ListResponse {
  info: InfoMessage[];
}
export interface UsageResponse {
  size: string;
  inodes: string;
}
export type Empty = Record<string, never>;

const KINDS: Readonly<Record<Kind, number>> = { view: 1, active: 2, committed: 3 };
const SECOND = 1_000_000_000n;

export function toInfoMessage(info: SnapshotInfo): InfoMessage {
  return {
    name: info.name,
    parent: info.parent,
    kind: KINDS[info.kind],
    createdAt: toTimestamp(info.created),
    updatedAt: toTimestamp(info.updated),
    labels: info.labels,
  };
}

/** Nanoseconds since the epoch (not before it) as google.protobuf.Timestamp. */
export function toTimestamp(nanoseconds: bigint): TimestampMessage {
  return { seconds: (nanoseconds / SECOND).toString(), nanos: Number(nanoseconds % SECOND) };
}

export function fromTimestamp({ seconds, nanos }: TimestampMessage): bigint {
  return BigInt(seconds) * SECOND + BigInt(nanos);
}
