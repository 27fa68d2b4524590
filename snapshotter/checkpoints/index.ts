/**
 * The service thaw.v1.Checkpoints for shims and the CLI (proto/thaw/v1/checkpoints.proto), over ttrpc. Called by
 * daemon.ts. `locate.ts` finds a checkpoint, `base-check.ts` compares its layers, `containerd.ts` asks containerd.
 */
import type { Logger } from 'pino';
import { fromBigInt } from '../../checkpoint/int64.ts';
import { thaw } from '../../proto/gen/thaw.js';
import { describeError } from '../../proto/status.ts';
import { type CallContext, type Handler, method, type Services } from '../../proto/ttrpc/index.ts';
import type { CacheEntry, NodeCache } from '../cache/index.ts';
import type { LazyLayers } from '../layers/index.ts';
import { IMAGE_REF_LABEL } from '../remote/index.ts';
import { type LocateOptions, locate } from './locate.ts';
import { readStartReport, type StartReport } from './start-report.ts';

export { containerdLayers } from './containerd.ts';

const { v1 } = thaw;

export interface CheckpointServiceOptions extends LocateOptions {
  log: Logger;
  /** A container asked for a checkpoint of which so many stored bytes were here. */
  onLocated?: ((presentBytes: number) => void) | undefined;
  /** Noting what is read of lazy layers; see LazyLayers. */
  layers: Pick<LazyLayers, 'record' | 'endRecord'>;
  /** A shim told how a start went. */
  onStart?: ((report: StartReport) => void) | undefined;
}

export function checkpointServices(options: CheckpointServiceOptions): Services {
  const { cache, snapshotter, layers, log, onLocated, onStart } = options;

  const Locate = method(v1.LocateRequest, v1.LocateResponse, async (request) => {
    const entry = await locate(options, request);
    onLocated?.(Number(entry.progress.presentBytes));
    return {
      id: entry.id,
      checkpointJson: entry.checkpoint.json,
      imagesDir: entry.imagesDirectory,
      lockFile: entry.lockFile,
      indexFile: entry.indexFile,
    };
  });

  const Await = method(v1.AwaitRequest, v1.AwaitResponse, async ({ id }, { signal }: CallContext) => {
    const entry = await cache.wait(id, signal);
    const { fetchedBytes, localBytes } = entry.progress;
    return { fetchedBytes: wire(fetchedBytes), localBytes: wire(localBytes) };
  });

  const Prefetch = method(
    v1.PrefetchRequest,
    v1.PrefetchResponse,
    async ({ id }, { signal }: CallContext) => {
      await options.remote.open(id);
      const { fetchedBytes, localBytes } = (await cache.wait(id, signal)).progress;
      return { fetchedBytes: wire(fetchedBytes), localBytes: wire(localBytes) };
    },
  );

  const Want = method(v1.WantRequest, v1.WantResponse, async ({ id, ordinals }, { signal }: CallContext) => {
    await cache.want(id, ordinals, signal);
    return {};
  });

  const Presence = method(
    v1.PresenceRequest,
    v1.PresenceResponse,
    ({ id, knownChunks }, { signal }: CallContext) => cache.presence(id, knownChunks, signal),
  );

  const statusOf = (entry: CacheEntry) => {
    const { storedBytes, presentBytes, fetchedBytes, wantedChunks } = entry.progress;
    const [layer] = snapshotter.store.withCached(entry.id);
    return {
      id: entry.id,
      imageRef: layer?.labels[IMAGE_REF_LABEL] ?? '',
      state: stateOf(entry),
      storedBytes: wire(storedBytes),
      presentBytes: wire(presentBytes),
      fetchedBytes: wire(fetchedBytes),
      wantedChunks,
      error: entry.state.kind === 'failed' ? entry.state.error.message : '',
    };
  };
  const List = method(v1.ListRequest, v1.ListResponse, () => ({
    checkpoints: entriesOf(cache, 'checkpoint').map(statusOf),
    layers: entriesOf(cache, 'layer').map(statusOf),
  }));

  const RecordReads = method(v1.RecordReadsRequest, v1.RecordReadsResponse, () => {
    layers.record();
    return {};
  });

  const EndReads = method(v1.EndReadsRequest, v1.EndReadsResponse, () => ({
    layers: layers.endRecord().map(({ id, diffId, frames }) => ({ id, diffId, frames: [...frames] })),
  }));

  const Evict = method(v1.EvictRequest, v1.EvictResponse, async ({ id }) => {
    const freedBytes = await cache.evict(id);
    log.info({ id, freedBytes: Number(freedBytes) }, 'evicted');
    return { freedBytes: wire(freedBytes) };
  });

  const Report = method(v1.ReportRequest, v1.ReportResponse, (request) => {
    const report = readStartReport(request);
    const { times, ...facts } = report;
    const ms = Object.fromEntries(times.map((time) => [time.phase, time.ms]));
    log.info({ ...facts, ms }, 'start');
    onStart?.(report);
    return {};
  });

  return {
    'thaw.v1.Checkpoints': {
      Locate: logged('Locate', log, Locate),
      Await: logged('Await', log, Await),
      Prefetch: logged('Prefetch', log, Prefetch),
      Want: logged('Want', log, Want),
      Presence,
      List,
      Evict: logged('Evict', log, Evict),
      RecordReads: logged('RecordReads', log, RecordReads),
      EndReads: logged('EndReads', log, EndReads),
      Report: logged('Report', log, Report),
    },
  };
}

function stateOf({ state }: CacheEntry): thaw.v1.CheckpointStatus.State {
  const { State } = v1.CheckpointStatus;
  switch (state.kind) {
    case 'idle':
      return State.STATE_UNKNOWN;
    case 'fetching':
      return State.STATE_FETCHING;
    case 'complete':
      return State.STATE_COMPLETE;
    case 'failed':
      return State.STATE_FAILED;
  }
}

function logged(name: string, log: Logger, handler: Handler): Handler {
  return async (payload, call) => {
    const started = performance.now();
    try {
      const answer = await handler(payload, call);
      log.debug({ rpc: name, ms: Math.round(performance.now() - started) }, 'answered');
      return answer;
    } catch (error) {
      const { code, message, context } = describeError(error);
      log.info({ rpc: name, code, error: message, ...context }, 'refused');
      throw error;
    }
  };
}

function wire(value: bigint): never {
  // The generated types say "number | Long" with a type that only CommonJS code can name.
  return fromBigInt(value) as never;
}

function entriesOf(cache: NodeCache, kind: CacheEntry['content']['kind']): CacheEntry[] {
  return cache.entries().filter(({ content }) => content.kind === kind);
}
