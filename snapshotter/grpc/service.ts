/** The Snapshots service: requests to calls of the snapshotter, results to answers, nothing else. */
import type { handleServerStreamingCall, handleUnaryCall, ServerUnaryCall } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { Code, describeError } from '../../proto/status.ts';
import { invalidArgument } from '../error.ts';
import type { SnapshotRpc } from '../metrics/rpcs.ts';
import type { Mount, OverlaySnapshotter } from '../overlay/index.ts';
import type { Labels, Usage } from '../store/index.ts';
import { answerList } from './list.ts';
import {
  type CommitRequest,
  type CreateRequest,
  type Empty,
  type InfoResponse,
  type KeyRequest,
  type ListRequest,
  type ListResponse,
  type MountsResponse,
  toInfoMessage,
  type UpdateRequest,
  type UsageResponse,
} from './messages.ts';

/** A client may do something with each snapshot before it reads on. */
const LIST_STALL_MS = 60_000;

export interface ServiceOptions {
  snapshotter: OverlaySnapshotter;
  /**
   * Prepare of anything. Throws ALREADY_EXISTS if a committed snapshot now stands for the layer that the labels name:
   * then containerd downloads nothing.
   */
  prepare: (key: string, parent: string, labels: Labels, signal: AbortSignal) => Promise<Mount[]>;
  remove: (key: string) => void;
  usage: (key: string) => Promise<Usage>;
  /** How long a client of List may read nothing. */
  listStallMs?: number;
  log: Logger;
  /** Each call, once, with the milliseconds that it took. */
  onAnswered?: ((rpc: SnapshotRpc, code: Code, ms: number) => void) | undefined;
}

export function snapshotsService(options: ServiceOptions) {
  const { snapshotter, log, onAnswered } = options;

  const unary = <Request, Response>(
    name: SnapshotRpc,
    answer: (request: Request, call: ServerUnaryCall<Request, Response>) => Promise<Response> | Response,
  ): handleUnaryCall<Request, Response> => {
    return (call, callback) => {
      const started = performance.now();
      const settle = async () => answer(call.request, call);
      settle().then(
        (response) => {
          if (log.isLevelEnabled('debug'))
            log.debug({ rpc: name, ...subject(call), ms: elapsed(started) }, 'answered');
          onAnswered?.(name, Code.ok, performance.now() - started);
          callback(null, response);
        },
        (caught: unknown) => {
          const { code, message, context } = describeError(caught);
          const fields = {
            rpc: name,
            ...subject(call),
            code,
            error: message,
            ...context,
            ms: elapsed(started),
          };
          if (code === Code.unknown || code === Code.internal || code === Code.resourceExhausted)
            log.error(fields, 'failed');
          else log.debug(fields, 'refused');
          onAnswered?.(name, code, performance.now() - started);
          callback({ code, details: message });
        },
      );
    };
  };

  const list: handleServerStreamingCall<ListRequest, ListResponse> = (call) => {
    const started = performance.now();
    answerList(call, () => snapshotter.list(), options.listStallMs ?? LIST_STALL_MS).then(
      () => onAnswered?.('List', Code.ok, performance.now() - started),
      (caught: unknown) => {
        const { code, message, context } = describeError(caught);
        onAnswered?.('List', code, performance.now() - started);
        log.debug({ rpc: 'List', code, error: message, ...context }, 'refused');
        call.emit('error', { code, details: message });
      },
    );
  };

  return {
    Prepare: unary<CreateRequest, MountsResponse>('Prepare', async ({ key, parent, labels }, call) => ({
      mounts: await options.prepare(key, parent, labels, signalOf(call)),
    })),
    View: unary<CreateRequest, MountsResponse>('View', async ({ key, parent, labels }) => ({
      mounts: await snapshotter.create('view', key, parent, labels),
    })),
    Mounts: unary<KeyRequest, MountsResponse>('Mounts', ({ key }) => ({ mounts: snapshotter.mounts(key) })),
    Commit: unary<CommitRequest, Empty>('Commit', ({ name, key, labels, parent }) => {
      if (parent !== '')
        throw invalidArgument(
          `Cannot commit snapshot "${key}" onto parent "${parent}": the capability "rebase" is not offered; remove it from the plug-in's configuration`,
        );
      snapshotter.commit(name, key, labels);
      return {};
    }),
    Remove: unary<KeyRequest, Empty>('Remove', ({ key }) => {
      options.remove(key);
      return {};
    }),
    Stat: unary<KeyRequest, InfoResponse>('Stat', ({ key }) => ({
      info: toInfoMessage(snapshotter.stat(key)),
    })),
    Update: unary<UpdateRequest, InfoResponse>('Update', ({ info, updateMask }) => {
      if (!info) throw invalidArgument('Cannot update a snapshot without its info');
      return { info: toInfoMessage(snapshotter.update(info.name, info.labels, updateMask?.paths ?? [])) };
    }),
    List: list,
    Usage: unary<KeyRequest, UsageResponse>('Usage', async ({ key }) => {
      const { size, inodes } = await options.usage(key);
      return { size: size.toString(), inodes: inodes.toString() };
    }),
    Cleanup: unary<Empty, Empty>('Cleanup', async () => {
      await snapshotter.cleanup();
      return {};
    }),
  };
}

/** Only for calls that may take long: it is aborted at the end of each, which costs as much as a short call. */
function signalOf(call: ServerUnaryCall<unknown, unknown>): AbortSignal {
  const abort = new AbortController();
  call.on('cancelled', () => abort.abort());
  return abort.signal;
}

function subject(call: ServerUnaryCall<unknown, unknown>): Record<string, unknown> {
  const request = call.request as { key?: string; name?: string; info?: { name: string } | null };
  return {
    key: request.key,
    name: request.name ?? request.info?.name,
    namespace: call.metadata.get('containerd-namespace')[0],
  };
}

function elapsed(started: number): number {
  return Math.round(performance.now() - started);
}
