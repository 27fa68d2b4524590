/** google.protobuf.Timestamp from and to nanoseconds since 1970. */

const NANOSECONDS = 1_000_000_000n;

export function toTimestamp(nanoseconds: bigint): { seconds: number; nanos: number } {
  return { seconds: Number(nanoseconds / NANOSECONDS), nanos: Number(nanoseconds % NANOSECONDS) };
}
