/** thaw.v1.Checkpoints of the daemon on this node, over ttrpc. */
import type { LayerReads } from '../../checkpoint/index-format.ts';
import { thaw } from '../../proto/gen/thaw.js';
import { Code, describeError } from '../../proto/status.ts';
import { TtrpcClient } from '../../proto/ttrpc/index.ts';
import { CliError } from '../error.ts';

const SERVICE = 'thaw.v1.Checkpoints';
const CONNECT_MS = 2_000;
const LIST_MS = 10_000;
/** As long as a link may take for a checkpoint. */
const PREFETCH_MS = 24 * 3_600_000;
/** Deleting a cache of many gigabytes is unlinking whole files. */
const EVICT_MS = 60_000;

export type CheckpointState = 'fetching' | 'complete' | 'failed' | 'unknown';

export interface NodeCheckpoint {
  id: string;
  image: string;
  state: CheckpointState;
  storedBytes: bigint;
  presentBytes: bigint;
  fetchedBytes: bigint;
  /** Chunks that somebody waits for. */
  wantedChunks: number;
  error: string;
}

export interface NodeContents {
  checkpoints: NodeCheckpoint[];
  /** Lazy base layers; chunks are their frames. */
  layers: NodeCheckpoint[];
}

export interface Daemon {
  list(): Promise<NodeCheckpoint[]>;
  /** Those, and the lazy layers. */
  listAll(): Promise<NodeContents>;
  /** Notes from now on what containers that are started read of lazy layers. */
  recordReads(): Promise<void>;
  /** Ends that, and answers what was read. */
  endReads(): Promise<(LayerReads & { diffId: string })[]>;
  /** Resolves when all of a checkpoint is here. NOT_FOUND if no snapshot of this node stands for it. */
  prefetch(id: string): Promise<{ fetchedBytes: bigint; localBytes: bigint }>;
  /** Returns the bytes that are free again. */
  evict(id: string): Promise<bigint>;
}

/** Connects for the time of `use`. */
export async function withDaemon<Result>(
  socket: string,
  signal: AbortSignal,
  use: (daemon: Daemon) => Promise<Result>,
): Promise<Result> {
  const client = await TtrpcClient.connect(socket, CONNECT_MS).catch((error: unknown) => {
    const message = `Cannot reach thaw-snapshotter at ${socket}: start it, or name its socket with --socket`;
    throw new CliError(Code.unavailable, message, { cause: error });
  });
  try {
    return await use(daemonOf(client, signal));
  } finally {
    client.close();
  }
}

function daemonOf(client: TtrpcClient, signal: AbortSignal): Daemon {
  const { ListRequest, ListResponse, EvictRequest, EvictResponse } = thaw.v1;
  const list = () =>
    client
      .unary(
        SERVICE,
        'List',
        { request: ListRequest, response: ListResponse },
        {},
        { timeoutMs: LIST_MS, signal },
      )
      .catch((error: unknown) => {
        throw failed('list what is on this node', error);
      });
  return {
    list: async () => (await list()).checkpoints.map(checkpointOf),
    async listAll() {
      const { checkpoints, layers } = await list();
      return { checkpoints: checkpoints.map(checkpointOf), layers: layers.map(checkpointOf) };
    },
    async recordReads() {
      const codecs = { request: thaw.v1.RecordReadsRequest, response: thaw.v1.RecordReadsResponse };
      await client
        .unary(SERVICE, 'RecordReads', codecs, {}, { timeoutMs: LIST_MS, signal })
        .catch((error: unknown) => {
          throw failed('record what is read', error);
        });
    },
    async endReads() {
      const codecs = { request: thaw.v1.EndReadsRequest, response: thaw.v1.EndReadsResponse };
      const answer = await client
        .unary(SERVICE, 'EndReads', codecs, {}, { timeoutMs: LIST_MS, signal })
        .catch((error: unknown) => {
          throw failed('record what was read', error);
        });
      return answer.layers.map(({ id, diffId, frames }) => ({
        layer: id ?? '',
        diffId: diffId ?? '',
        frames: frames ?? [],
      }));
    },
    async prefetch(id) {
      const codecs = { request: thaw.v1.PrefetchRequest, response: thaw.v1.PrefetchResponse };
      const answer = await client
        .unary(SERVICE, 'Prefetch', codecs, { id }, { timeoutMs: PREFETCH_MS, signal })
        .catch((error: unknown) => {
          throw failed('prefetch the checkpoint', error);
        });
      return { fetchedBytes: toBigInt(answer.fetchedBytes), localBytes: toBigInt(answer.localBytes) };
    },
    async evict(id) {
      const codecs = { request: EvictRequest, response: EvictResponse };
      const answer = await client
        .unary(SERVICE, 'Evict', codecs, { id }, { timeoutMs: EVICT_MS, signal })
        .catch((error: unknown) => {
          const { code, message } = describeError(error);
          // In use: the daemon says by whom and what to do.
          throw code === Code.failedPrecondition ? new CliError(code, message) : failed(`evict ${id}`, error);
        });
      return toBigInt(answer.freedBytes);
    },
  };
}

function checkpointOf(status: thaw.v1.CheckpointStatus.$Properties): NodeCheckpoint {
  return {
    id: status.id ?? '',
    image: status.imageRef ?? '',
    state: stateName(status.state),
    storedBytes: toBigInt(status.storedBytes),
    presentBytes: toBigInt(status.presentBytes),
    fetchedBytes: toBigInt(status.fetchedBytes),
    wantedChunks: status.wantedChunks ?? 0,
    error: status.error ?? '',
  };
}

function failed(action: string, error: unknown): CliError {
  const { code, message } = describeError(error);
  return new CliError(code, `Cannot ${action}: ${message}`);
}

/** protobufjs gives 64-bit fields as Long where it is loaded and as number where not. */
function toBigInt(value: { toString(): string } | null | undefined): bigint {
  return BigInt(value?.toString() ?? '0');
}

function stateName(state: thaw.v1.CheckpointStatus.State | null | undefined): CheckpointState {
  const { STATE_COMPLETE, STATE_FAILED, STATE_FETCHING } = thaw.v1.CheckpointStatus.State;
  switch (state) {
    case STATE_COMPLETE:
      return 'complete';
    case STATE_FETCHING:
      return 'fetching';
    case STATE_FAILED:
      return 'failed';
    default:
      return 'unknown';
  }
}
