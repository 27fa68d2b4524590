import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  type EnumTypeDefinition,
  loadSync,
  type MessageTypeDefinition,
  type ServiceDefinition,
} from '@grpc/proto-loader';
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';

/** proto/ beside this source tree, or beside the bundle's lib/ folder in an installed version. */
function protoRoot(): string {
  const candidates = [join(import.meta.dirname, '../../proto'), join(import.meta.dirname, '../proto')];
  const found = candidates.find((dir) => existsSync(join(dir, 'containerd/services')));
  if (found === undefined)
    throw new CliError(
      Code.internal,
      'Cannot find the folder proto/ of this installation: install thaw again',
      {
        context: { tried: candidates.join(', ') },
      },
    );
  return found;
}

const loaded = new Map<string, ReturnType<typeof loadSync>>();

/** Loads one .proto file on first use; a command pays only for the services it calls. */
function load(file: string): ReturnType<typeof loadSync> {
  let definition = loaded.get(file);
  if (definition === undefined) {
    definition = loadSync(join('containerd/services', file), {
      includeDirs: [protoRoot()],
      longs: String,
      enums: String,
      defaults: true,
    });
    loaded.set(file, definition);
  }
  return definition;
}

/** The definition of a service by its full name, for example "containerd.services.content.v1.Content". */
export function service(file: string, name: string): ServiceDefinition {
  const found = load(file)[name];
  if (found === undefined || 'format' in found)
    throw new CliError(Code.internal, `Cannot find the service ${name} in ${file}`);
  return found;
}

export function messageType(file: string, name: string): MessageTypeDefinition<object, object> {
  const found = load(file)[name];
  if (found === undefined || !isMessage(found))
    throw new CliError(Code.internal, `Cannot find the message ${name} in ${file}`);
  return found;
}

function isMessage(
  definition: ServiceDefinition | MessageTypeDefinition<object, object> | EnumTypeDefinition,
): definition is MessageTypeDefinition<object, object> {
  return definition.format === 'Protocol Buffer 3 DescriptorProto';
}
