/** Service definitions from the .proto files that lie beside the program (proto/ in a checkout, ../proto in dist/). */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';

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

/** Loads one service. 64-bit fields are decimal strings, enums numbers, fields camelCase. */
export function loadService(file: string, name: string): ServiceClientConstructor {
  const definition = loadSync(file, {
    includeDirs: [protoDirectory()],
    longs: String,
    enums: Number,
    defaults: true,
    arrays: true,
    objects: true,
  });
  let found: unknown = loadPackageDefinition(definition);
  for (const part of name.split('.')) found = (found as Record<string, unknown> | undefined)?.[part];
  if (typeof found !== 'function')
    throw new SnapshotError(Code.internal, `Cannot find service ${name} in ${file}; install thaw again`);
  return found as ServiceClientConstructor;
}
