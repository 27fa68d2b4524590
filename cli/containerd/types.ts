/** Source: types/descriptor.proto and types/mount.proto of containerd's API. */
export interface Descriptor {
  mediaType: string;
  digest: string;
  size: bigint;
  annotations: Readonly<Record<string, string>>;
}

export interface Mount {
  type: string;
  source: string;
  target: string;
  options: string[];
}

/** google.protobuf.Any, with the field names that proto-loader keeps for protobufjs's own type. */
export interface AnyMessage {
  type_url: string;
  value: Buffer;
}

export interface ContentInfo {
  digest: string;
  size: bigint;
  labels: Readonly<Record<string, string>>;
}

export interface SnapshotInfo {
  name: string;
  parent: string;
  kind: 'UNKNOWN' | 'VIEW' | 'ACTIVE' | 'COMMITTED';
  labels: Readonly<Record<string, string>>;
}

/** As protobuf hands a message over: 64-bit numbers are decimal strings. */
export interface WireDescriptor {
  mediaType: string;
  digest: string;
  size: string;
  annotations: Record<string, string>;
}

export function fromWire(wire: WireDescriptor): Descriptor {
  return { ...wire, size: BigInt(wire.size) };
}

export function toWire(descriptor: Descriptor): WireDescriptor {
  return {
    mediaType: descriptor.mediaType,
    digest: descriptor.digest,
    size: String(descriptor.size),
    annotations: { ...descriptor.annotations },
  };
}
