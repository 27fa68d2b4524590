/** Sysctls of an IPC namespace: CRIU writes them into the namespace it joins, so a restore gives it the pod's own. */
import { criu } from '../../proto/gen/criu-dump.js';
import { fromBigInt, type Int64, toBigInt } from '../int64.ts';
import { decodeOnly, optional } from './decode.ts';
import { Magic, readMessages, writeMessages } from './framing.ts';

export interface IpcVars {
  /** kernel.sem. */
  sem: readonly number[];
  msgmax: number;
  msgmnb: number;
  msgmni: number;
  autoMsgmni: number;
  shmmax: bigint;
  shmall: bigint;
  shmmni: number;
  shmRmidForced: number;
  mqQueuesMax: number;
  mqMsgMax: number;
  mqMsgsizeMax: number;
  mqMsgDefault: number | undefined;
  mqMsgsizeDefault: number | undefined;
}

const NAME = 'ipcns-var.img';

export function readIpcVars(bytes: Uint8Array): IpcVars {
  const vars = decodeOnly(criu.dump.IpcVars, readMessages(bytes, Magic.ipcnsVars, NAME), NAME);
  const { msgmax, msgmnb, msgmni, autoMsgmni, shmmni, shmRmidForced } = vars;
  return {
    sem: vars.sem,
    ...{ msgmax, msgmnb, msgmni, autoMsgmni, shmmni, shmRmidForced },
    shmmax: toBigInt(vars.shmmax as Int64),
    shmall: toBigInt(vars.shmall as Int64),
    mqQueuesMax: vars.mqQueuesMax,
    mqMsgMax: vars.mqMsgMax,
    mqMsgsizeMax: vars.mqMsgsizeMax,
    mqMsgDefault: optional(vars, 'mqMsgDefault'),
    mqMsgsizeDefault: optional(vars, 'mqMsgsizeDefault'),
  };
}

export function writeIpcVars(vars: IpcVars): Buffer {
  const { mqMsgDefault, mqMsgsizeDefault, ...required } = vars;
  const message = {
    ...required,
    sem: [...vars.sem],
    // The generated types say "number | Long" with a type that only CommonJS code can name.
    shmmax: fromBigInt(vars.shmmax) as never,
    shmall: fromBigInt(vars.shmall) as never,
    ...(mqMsgDefault === undefined ? {} : { mqMsgDefault }),
    ...(mqMsgsizeDefault === undefined ? {} : { mqMsgsizeDefault }),
  };
  return writeMessages(Magic.ipcnsVars, [criu.dump.IpcVars.encode(message).finish()]);
}
