/** The snapshotter daemon as the shim sees it: thaw.v1.Checkpoints over ttrpc, one connection a call. */
import { thaw } from '../../proto/gen/thaw.js';
import { TtrpcClient } from '../../proto/ttrpc/index.ts';

const SERVICE = 'thaw.v1.Checkpoints';
const CONNECT_MS = 2_000;
/** Locate reads the index and may ask containerd; it fetches nothing. */
const LOCATE_MS = 10_000;

export interface Located {
  /** Digest of the index, the checkpoint's name on this node. */
  id: string;
  checkpointJson: Uint8Array;
  imagesDir: string;
  lockFile: string;
}

export interface Daemon {
  /** Rejects with NOT_FOUND, FAILED_PRECONDITION (other layers than the checkpoint's), DATA_LOSS or UNAVAILABLE. */
  locate(request: { namespace: string; containerId: string; lowerDirs: readonly string[] }): Promise<Located>;
  /** Resolves when every byte is on this node. */
  awaitComplete(id: string, deadlineMs: number): Promise<void>;
}

export function daemonAt(socket: string): Daemon {
  const withClient = async <Result>(call: (client: TtrpcClient) => Promise<Result>): Promise<Result> => {
    const client = await TtrpcClient.connect(socket, CONNECT_MS);
    try {
      return await call(client);
    } finally {
      client.close();
    }
  };
  return {
    locate: ({ namespace, containerId, lowerDirs }) =>
      withClient(async (client) => {
        const { LocateRequest, LocateResponse } = thaw.v1;
        const found = await client.unary(
          SERVICE,
          'Locate',
          { request: LocateRequest, response: LocateResponse },
          { namespace, containerId, lowerDirs: [...lowerDirs] },
          { timeoutMs: LOCATE_MS },
        );
        const { id, checkpointJson, imagesDir, lockFile } = found;
        return { id, checkpointJson, imagesDir, lockFile };
      }),
    awaitComplete: (id, deadlineMs) =>
      withClient(async (client) => {
        const { AwaitRequest, AwaitResponse } = thaw.v1;
        const codecs = { request: AwaitRequest, response: AwaitResponse };
        await client.unary(SERVICE, 'Await', codecs, { id }, { timeoutMs: deadlineMs });
      }),
  };
}
