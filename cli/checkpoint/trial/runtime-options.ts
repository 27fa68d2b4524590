/**
 * Options of a trial's task: the source's, with the images and CRIU's work directory added. Only options of containerd's own
 * runc shims can name images, so those that CRI sends to other runtimes are turned into them, as the shim reads both.
 */
import { readFile } from 'node:fs/promises';
import { parse } from 'smol-toml';
import { Code } from '../../../proto/status.ts';
import { messageType } from '../../containerd/protos.ts';
import type { AnyMessage } from '../../containerd/types.ts';
import { CliError } from '../../error.ts';

const RUNC_OPTIONS = 'containerd.runc.v1.Options';
const RUNTIME_OPTIONS = 'runtimeoptions.v1.Options';

/** Names in TOML and in the message. Paths of CRIU that the node's configuration has are the trial's own here. */
const FIELDS: readonly [string, string][] = [
  ['binaryname', 'binaryName'],
  ['root', 'root'],
  ['systemdcgroup', 'systemdCgroup'],
  ['nopivotroot', 'noPivotRoot'],
  ['nonewkeyring', 'noNewKeyring'],
  ['iouid', 'ioUid'],
  ['iogid', 'ioGid'],
];

export async function trialOptions(
  source: AnyMessage | undefined,
  paths: { imagePath: string; workPath: string },
): Promise<AnyMessage> {
  const type = messageType('../runc/v1/options.proto', RUNC_OPTIONS);
  const added = type.serialize({ criuImagePath: paths.imagePath, criuWorkPath: paths.workPath });
  const named = (source?.type_url ?? '').replace(/^.*\//, '');
  switch (named) {
    case '':
      return { type_url: RUNC_OPTIONS, value: added };
    case RUNC_OPTIONS:
      // Of a field that comes twice the last one counts (protobuf, "Last one wins"), and unknown ones stay.
      return { type_url: RUNC_OPTIONS, value: Buffer.concat([source?.value ?? Buffer.alloc(0), added]) };
    case RUNTIME_OPTIONS: {
      const value = type.serialize(await fromToml(source?.value ?? Buffer.alloc(0)));
      return { type_url: RUNC_OPTIONS, value: Buffer.concat([value, added]) };
    }
    default:
      throw new CliError(Code.unimplemented, `Cannot read runtime options of the type ${named}`);
  }
}

async function fromToml(value: Buffer): Promise<object> {
  const type = messageType('../runtimeoptions/v1/options.proto', RUNTIME_OPTIONS);
  const { configBody, configPath } = type.deserialize(value) as { configBody: Buffer; configPath: string };
  const text = configBody.length > 0 || configPath === '' ? configBody : await readFile(configPath);
  const table = new Map(
    Object.entries(parse(text.toString('utf8'))).map(([key, entry]) => [key.toLowerCase(), entry]),
  );
  return Object.fromEntries(
    FIELDS.flatMap(([key, field]) => (table.has(key) ? [[field, table.get(key)]] : [])),
  );
}
