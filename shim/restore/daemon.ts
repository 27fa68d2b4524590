/** The snapshotter daemon as the shim sees it: thaw.v1.Checkpoints over ttrpc, one connection a call. */
import { thaw } from '../../proto/gen/thaw.js';
import { TtrpcClient } from '../../proto/ttrpc/index.ts';
import { reportMessage, type StartReport } from './report.ts';

const SERVICE = 'thaw.v1.Checkpoints';
const CONNECT_MS = 2_000;
/** Locate reads the index and may ask containerd; it fetches nothing. */
const LOCATE_MS = 10_000;
/** Tries of a call that is cut off. */
const MAX_TRIES = 3;
/** Nobody waits for it. */
const REPORT_MS = 2_000;
/** Longer than the daemon lets a question for what is present wait. */
const PRESENCE_MS = 30_000;

export interface Located {
  /** Digest of the index, the checkpoint's name on this node. */
  id: string;
  checkpointJson: Uint8Array;
  imagesDir: string;
  lockFile: string;
  /** The verified index. */
  indexFile: string;
}

export interface PresentChunks {
  /** One bit a chunk by ordinal, lowest first; a set one stays true while the lock is held. */
  bits: Uint8Array;
  chunks: number;
  complete: boolean;
}

export interface Daemon {
  /** Rejects with NOT_FOUND, FAILED_PRECONDITION (other layers than the checkpoint's), DATA_LOSS or UNAVAILABLE. */
  locate(request: { namespace: string; containerId: string; lowerDirs: readonly string[] }): Promise<Located>;
  /** Resolves when every byte is on this node. */
  awaitComplete(id: string, deadlineMs: number): Promise<void>;
  /** For metrics. A daemon of the version before rejects with UNIMPLEMENTED. */
  report(report: StartReport): Promise<void>;
  /** For many calls over one connection. Rejects with UNAVAILABLE if the daemon is not there. */
  connect(): Promise<DaemonConnection>;
}

/** One connection; when it breaks, calls reject with UNAVAILABLE and another one is needed. */
export interface DaemonConnection {
  /** False once it is broken. */
  readonly usable: boolean;
  /**
   * Resolves when these chunks (ordinals of the index) are in the files. Rejects with DATA_LOSS, RESOURCE_EXHAUSTED,
   * NOT_FOUND or FAILED_PRECONDITION if waiting does not help, DEADLINE_EXCEEDED and UNAVAILABLE if it may.
   */
  want(id: string, ordinals: readonly number[], deadlineMs: number): Promise<void>;
  /** What is present: at once if that is not `knownChunks`, else when it changes or after some 10 s. */
  presence(id: string, knownChunks: number): Promise<PresentChunks>;
  close(): void;
}

export function daemonAt(socket: string): Daemon {
  /** A call under which the connection broke is made again: the daemon was replaced by another one, and no call here changes anything. */
  const withClient = async <Result>(call: (client: TtrpcClient) => Promise<Result>): Promise<Result> => {
    for (let tries = 1; ; tries++) {
      const client = await TtrpcClient.connect(socket, CONNECT_MS);
      try {
        return await call(client);
      } catch (error) {
        if (client.usable || tries === MAX_TRIES) throw error;
      } finally {
        client.close();
      }
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
        const { id, checkpointJson, imagesDir, lockFile, indexFile } = found;
        return { id, checkpointJson, imagesDir, lockFile, indexFile };
      }),
    awaitComplete: (id, deadlineMs) => {
      const until = performance.now() + deadlineMs;
      return withClient(async (client) => {
        const { AwaitRequest, AwaitResponse } = thaw.v1;
        const codecs = { request: AwaitRequest, response: AwaitResponse };
        const timeoutMs = Math.max(1, Math.round(until - performance.now()));
        await client.unary(SERVICE, 'Await', codecs, { id }, { timeoutMs });
      });
    },
    report: (report) =>
      withClient(async (client) => {
        const { ReportRequest, ReportResponse } = thaw.v1;
        const codecs = { request: ReportRequest, response: ReportResponse };
        await client.unary(SERVICE, 'Report', codecs, reportMessage(report), { timeoutMs: REPORT_MS });
      }),
    connect: async () => new Connection(await TtrpcClient.connect(socket, CONNECT_MS)),
  };
}

class Connection implements DaemonConnection {
  readonly #client: TtrpcClient;

  constructor(client: TtrpcClient) {
    this.#client = client;
  }

  get usable(): boolean {
    return this.#client.usable;
  }

  async want(id: string, ordinals: readonly number[], deadlineMs: number): Promise<void> {
    const { WantRequest, WantResponse } = thaw.v1;
    const codecs = { request: WantRequest, response: WantResponse };
    const request = { id, ordinals: [...ordinals] };
    await this.#client.unary(SERVICE, 'Want', codecs, request, { timeoutMs: deadlineMs });
  }

  async presence(id: string, knownChunks: number): Promise<PresentChunks> {
    const { PresenceRequest, PresenceResponse } = thaw.v1;
    const codecs = { request: PresenceRequest, response: PresenceResponse };
    const { bits, chunks, complete } = await this.#client.unary(
      SERVICE,
      'Presence',
      codecs,
      { id, knownChunks },
      { timeoutMs: PRESENCE_MS },
    );
    return { bits, chunks, complete };
  }

  close(): void {
    this.#client.close();
  }
}
