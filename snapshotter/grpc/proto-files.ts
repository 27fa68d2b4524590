/** Service definitions from the .proto files that lie beside the program (proto/ in a checkout, ../proto in dist/). */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';

export const SNAPSHOTS_PROTO = 'containerd/services/snapshots/v1/snapshots.proto';
export const SNAPSHOTS_SERVICE = 'containerd.services.snapshots.v1.Snapshots';

const here = dirname(fileURLToPath(import.meta.url));

function protoDirectory(): string {
  const places = [join(here, '../proto'), join(here, '../../proto')];
  const found = places.find((place) => existsSync(join(place, 'containerd')));
  if (!found)
    throw new SnapshotError(
      Code.notFound,
      `Cannot find the .proto files; install thaw again (looked at ${places.join(', ')})`,
    );
  return found;
}

/** Everything in a file. 64-bit fields are decimal strings, enums numbers, fields camelCase. */
export function loadPackage(file: string): PackageDefinition {
  return loadSync(file, {
    includeDirs: [protoDirectory()],
    longs: String,
    enums: Number,
    defaults: true,
    arrays: true,
    objects: true,
  });
}

/** Path, decoder of requests and encoder of answers of each method of a service. */
export type ServiceDefinition = Readonly<Record<string, MethodCodec>>;
export interface MethodCodec {
  path: string;
  requestDeserialize(bytes: Buffer): object;
  responseSerialize(message: object): Uint8Array;
}

export function loadDefinition(file: string, name: string): ServiceDefinition {
  const found = loadPackage(file)[name];
  if (!found || 'format' in found) throw missing(file, name);
  return found;
}

export function missing(file: string, name: string): SnapshotError {
  return new SnapshotError(Code.internal, `Cannot find service ${name} in ${file}; install thaw again`);
}
