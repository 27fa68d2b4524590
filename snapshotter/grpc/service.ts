/** The Snapshots service: requests to calls of the snapshotter, results to answers, nothing else. */
import type { Logger } from 'pino';
import { Code, describeError } from '../../proto/status.ts';
import { invalidArgument, SnapshotError } from '../error.ts';
import type { SnapshotRpc } from '../metrics/rpcs.ts';
import type { Mount, OverlaySnapshotter } from '../overlay/index.ts';
import type { Labels, Usage } from '../store/index.ts';
import type { Call } from './call.ts';
import { answerList } from './list.ts';
import {
  type CommitRequest,
  type CreateRequest,
  type Empty,
  type InfoResponse,
  type KeyRequest,
  type ListRequest,
  type MountsResponse,
  toInfoMessage,
  type UpdateRequest,
  type UsageResponse,
} from './messages.ts';
import { loadDefinition, type MethodCodec, SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE } from './proto-files.ts';
import type { Method, Methods } from './server.ts';

/** A client may do something with each snapshot before it reads on. */
const LIST_STALL_MS = 60_000;
const EMPTY: Empty = {};

export interface ServiceOptions {
  snapshotter: OverlaySnapshotter;
  /**
   * Prepare of anything. Throws ALREADY_EXISTS if a committed snapshot now stands for the layer that the labels name:
   * then containerd downloads nothing.
   */
  prepare: (key: string, parent: string, labels: Labels, signal: () => AbortSignal) => Promise<Mount[]>;
  remove: (key: string) => Promise<void>;
  usage: (key: string) => Promise<Usage>;
  /** How long a client of List may read nothing. */
  listStallMs?: number;
  log: Logger;
  /** Each call, once, with the milliseconds that it took. */
  onAnswered?: ((rpc: SnapshotRpc, code: Code, ms: number) => void) | undefined;
}

export function snapshotsService(options: ServiceOptions): Methods {
  const { snapshotter } = options;
  const definition = loadDefinition(SNAPSHOTS_PROTO, SNAPSHOTS_SERVICE);
  const methods = new Map<string, Method>();

  /**
   * `answer`: undefined where it has sent all there is. `subject`: the one snapshot that a success is about, and where it only
   * looks at that one, a failure too.
   */
  const serve = <Request>(
    name: SnapshotRpc,
    answer: (request: Request, call: Call, codec: MethodCodec) => Promise<object | undefined> | object,
    subject?: (request: Request) => string | undefined,
    { onlyLooks = false } = {},
  ) => {
    const codec = definition[name];
    if (!codec) throw new SnapshotError(Code.internal, `There is no ${name} in ${SNAPSHOTS_PROTO}`);
    methods.set(codec.path, async (bytes, call) => {
      const started = performance.now();
      const request = decode<Request>(codec, bytes);
      try {
        const about = subject?.(request);
        let response: object | undefined;
        let isAboutOne = onlyLooks;
        try {
          response = await answer(request, call, codec);
          isAboutOne = true;
        } finally {
          // Nothing is answered, nor refused, that a power failure could take back.
          await (isAboutOne && about !== undefined ? snapshotter.flushedOf(about) : snapshotter.flushed());
        }
        told(options, name, Code.ok, started, request, call);
        return response && codec.responseSerialize(response);
      } catch (caught) {
        told(options, name, describeError(caught).code, started, request, call, caught);
        throw caught;
      }
    });
  };

  serve<CreateRequest>(
    'Prepare',
    async ({ key, parent, labels }, call) => ({
      mounts: await options.prepare(key, parent, labels, () => call.signal),
    }),
    ({ key }) => key,
  );
  serve<CreateRequest>(
    'View',
    async ({ key, parent, labels }) => ({ mounts: await snapshotter.create('view', key, parent, labels) }),
    ({ key }) => key,
  );
  serve<KeyRequest>(
    'Mounts',
    ({ key }) => ({ mounts: snapshotter.mounts(key) }) satisfies MountsResponse,
    ({ key }) => key,
    { onlyLooks: true },
  );
  serve<CommitRequest>(
    'Commit',
    async ({ name, key, labels, parent }) => {
      if (parent !== '')
        throw invalidArgument(
          `Cannot commit snapshot "${key}" onto parent "${parent}": the capability "rebase" is not offered; remove it from the plug-in's configuration`,
        );
      await snapshotter.commit(name, key, labels);
      return EMPTY;
    },
    ({ name }) => name,
  );
  serve<KeyRequest>(
    'Remove',
    async ({ key }) => {
      await options.remove(key);
      return EMPTY;
    },
    ({ key }) => key,
  );
  serve<KeyRequest>(
    'Stat',
    ({ key }) => ({ info: toInfoMessage(snapshotter.stat(key)) }) satisfies InfoResponse,
    ({ key }) => key,
    { onlyLooks: true },
  );
  serve<UpdateRequest>(
    'Update',
    async ({ info, updateMask }) => {
      if (!info) throw invalidArgument('Cannot update a snapshot without its info');
      const updated = await snapshotter.update(info.name, info.labels, updateMask?.paths ?? []);
      return { info: toInfoMessage(updated) } satisfies InfoResponse;
    },
    ({ info }) => info?.name,
  );
  serve<ListRequest>('List', async ({ filters }, call, { responseSerialize }) => {
    await answerList(filters, call, {
      open: () => snapshotter.list(),
      flushed: () => snapshotter.flushed(),
      encode: responseSerialize,
      stallMs: options.listStallMs ?? LIST_STALL_MS,
    });
    return undefined;
  });
  serve<KeyRequest>(
    'Usage',
    async ({ key }) => {
      const { size, inodes } = await options.usage(key);
      return { size: size.toString(), inodes: inodes.toString() } satisfies UsageResponse;
    },
    ({ key }) => key,
    { onlyLooks: true },
  );
  serve<Empty>('Cleanup', async () => {
    await snapshotter.cleanup();
    return EMPTY;
  });
  return methods;
}

function decode<Request>(codec: MethodCodec, bytes: Buffer): Request {
  try {
    return codec.requestDeserialize(bytes) as Request;
  } catch (cause) {
    throw invalidArgument('Cannot decode the request', { cause });
  }
}

function told(
  { log, onAnswered }: ServiceOptions,
  rpc: SnapshotRpc,
  code: Code,
  started: number,
  request: unknown,
  call: Call,
  caught?: unknown,
): void {
  const ms = performance.now() - started;
  onAnswered?.(rpc, code, ms);
  const isFailure = code === Code.unknown || code === Code.internal || code === Code.resourceExhausted;
  if (!isFailure && !log.isLevelEnabled('debug')) return;
  const fields = { rpc, ...subject(request, call), ms: Math.round(ms) };
  if (code === Code.ok) {
    log.debug(fields, 'answered');
    return;
  }
  const { message, context } = describeError(caught);
  const failure = { ...fields, code, error: message, ...context };
  if (isFailure) log.error(failure, 'failed');
  else log.debug(failure, 'refused');
}

function subject(request: unknown, call: Call): Record<string, unknown> {
  const { key, name, info } = request as { key?: string; name?: string; info?: { name: string } | null };
  return { key, name: name ?? info?.name, namespace: call.headers['containerd-namespace'] };
}
