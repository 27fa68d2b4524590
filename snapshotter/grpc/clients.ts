/** Clients of gRPC services. Loaded where somebody is asked: the daemon's own server needs nothing of grpc-js. */
import { loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js';

export { credentials, Metadata } from '@grpc/grpc-js';

import { loadPackage, missing } from './proto-files.ts';

/** Messages as loadPackage has them. */
export function loadService(file: string, name: string): ServiceClientConstructor {
  let found: unknown = loadPackageDefinition(loadPackage(file));
  for (const part of name.split('.')) found = (found as Record<string, unknown> | undefined)?.[part];
  if (typeof found !== 'function') throw missing(file, name);
  return found as ServiceClientConstructor;
}
