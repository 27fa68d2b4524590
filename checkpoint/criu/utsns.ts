/** The image of a UTS namespace: CRIU writes these names into the namespace it joins, so a restore gives it others. */
import { criu } from '../../proto/gen/criu-restore.js';
import { broken, Magic, readMessages, writeMessages } from './framing.ts';

export interface HostNames {
  nodename: string;
  domainname: string;
}

export function readUtsns(bytes: Uint8Array): HostNames {
  const [message, ...rest] = readMessages(bytes, Magic.utsns, 'utsns.img');
  if (!message || rest.length > 0) throw broken('utsns.img', 'it holds not exactly one entry');
  try {
    const { nodename, domainname } = criu.Utsns.decode(message);
    return { nodename, domainname };
  } catch (cause) {
    throw broken('utsns.img', 'its entry cannot be decoded', cause);
  }
}

export function writeUtsns(names: HostNames): Buffer {
  return writeMessages(Magic.utsns, [criu.Utsns.encode(names).finish()]);
}
