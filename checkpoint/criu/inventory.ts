/** What CRIU noted about the dump as a whole. */
import { criu } from '../../proto/gen/criu-dump.js';
import { Code } from '../../proto/status.ts';
import { CheckpointError } from '../error.ts';
import { decodeOnly } from './decode.ts';
import { Magic, readMessages, writeMessages } from './framing.ts';
import { wireFields } from './wire.ts';

export interface Inventory {
  /** Names of CRIU plugins that a restore must load. */
  plugins: readonly string[];
  /** TCP connections were closed, so a restore must be told to close them too. */
  tcpClose: boolean;
}

/** CRIU's IMG_VERSION: 1 has no common magic, 2 has it. */
const IMAGE_VERSION = 2;

export function readInventory(bytes: Uint8Array): Inventory {
  const name = 'inventory.img';
  const inventory = decodeOnly(criu.dump.Inventory, readMessages(bytes, Magic.inventory, name), name);
  if (inventory.imgVersion !== IMAGE_VERSION)
    throw new CheckpointError(
      Code.unimplemented,
      `Cannot read the dump: its image version is ${inventory.imgVersion}, known is ${IMAGE_VERSION}`,
    );
  return {
    plugins: inventory.plugins?.plugins ?? [],
    tcpClose: inventory.tcpClose === true,
  };
}

/** Source: CRIU's inventory.proto. */
const TCP_CLOSE = 10;

/** Without the demand that a restore be told to close connections. Only for a dump that has none (`hasConnections`). */
export function withoutTcpClose(bytes: Uint8Array): Uint8Array {
  const name = 'inventory.img';
  const messages = [...readMessages(bytes, Magic.inventory, name)].map((message) =>
    Buffer.concat(
      [...wireFields(message, name)].filter(({ number }) => number !== TCP_CLOSE).map(({ whole }) => whole),
    ),
  );
  return writeMessages(Magic.inventory, messages);
}
