/** Puts the parts together: one daemon from start to end. */
import { existsSync, readFileSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { CredentialStore } from '../checkpoint/registry/index.ts';
import type { Addon } from '../native/index.ts';
import { Code, describeError } from '../proto/status.ts';
import { TtrpcServer } from '../proto/ttrpc/index.ts';
import { DirectTransfers, Limiter, NodeCache, type Transfers } from './cache/index.ts';
import { cacheEvents, logProgress } from './cache-events.ts';
import { usageWithCache } from './cache-usage.ts';
import { checkpointServices, containerdLayers } from './checkpoints/index.ts';
import type { Config } from './config.ts';
import { alreadyExists } from './error.ts';
import { FetchThreads, type WorkerSetup } from './fetch/index.ts';
import { fetchErrorKind } from './fetch-errors.ts';
import { SnapshotsServer } from './grpc/index.ts';
import type { Metrics } from './metrics/index.ts';
import { Directories, OverlaySnapshotter } from './overlay/index.ts';
import { RemoteLayers } from './remote/index.ts';
import { Registries } from './remote/registries.ts';
import { claimRoot, claimSocket, layoutOf } from './root-directory.ts';
import { SnapshotStore } from './store/index.ts';

export interface Daemon {
  /** Stops accepting, lets calls in flight finish, ends fetches. What is incomplete is fetched anew at the next start. */
  close(): Promise<void>;
}

/** A thread fetches some 2 Gbit/s. */
const MAX_FETCH_THREADS = 8;
const FETCH_IDLE_MS = 60_000;
const PROGRESS_MS = 10_000;
/** Calls in flight get so long at the end. */
const GRACE_MS = 5_000;

type Closer = () => void | Promise<void>;

/** Throws, with nothing left behind, if it cannot serve. */
export async function startDaemon(
  config: Config,
  native: Addon,
  log: Logger,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Daemon> {
  const closers: Closer[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    await start(config, native, log, environment, closers);
    return { close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function start(
  config: Config,
  native: Addon,
  log: Logger,
  environment: Readonly<Record<string, string | undefined>>,
  closers: Closer[],
): Promise<void> {
  closers.push(claimRoot(config.root, native.tryLock));
  const layout = layoutOf(config.root);
  const store = new SnapshotStore(layout.database);
  closers.push(() => store.close());
  const snapshotter = new OverlaySnapshotter({
    store,
    directories: new Directories(layout.snapshots),
    indexOff: existsSync('/sys/module/overlay/parameters/index'),
    now: native.realtime,
    events: {
      onNotDeleted: (error) => log.error({ error: describeError(error).message }, 'directory not deleted'),
      onRemade: (name) => log.warn({ name }, 'directory was gone, made again'),
      onLost: (names) => log.error({ names }, 'files of committed snapshots are gone'),
    },
  });
  closers.push(() => snapshotter.settle());
  await snapshotter.recover();

  const credentials = new CredentialStore({
    dockerConfig:
      config.docker_config === undefined ? undefined : { path: config.docker_config, required: true },
    pullSecrets: config.pull_secrets,
    environment: forHelpers(environment),
  });
  closers.push(() => credentials.close());
  const setup: WorkerSetup = {
    hosts: Object.fromEntries(
      Object.entries(config.registries).map(([host, { plain_http: plainHttp, mirrors }]) => [
        host,
        { plainHttp, mirrors },
      ]),
    ),
    hostsDirs: config.hosts_dirs,
  };
  const registries = new Registries({ ...setup, credentials: (request) => credentials.find(request) });
  closers.push(() => registries.close());
  const transfers = new FetchThreads({
    setup,
    credentials: (request) => credentials.find(request),
    threads: Math.min(availableParallelism(), MAX_FETCH_THREADS),
    direct: new DirectTransfers(native.writeChunk),
    idleMs: FETCH_IDLE_MS,
  });
  closers.push(() => transfers.close());
  const metricsModule = config.metrics.address === undefined ? undefined : await import('./metrics/index.ts');
  const metrics =
    metricsModule && new metricsModule.Metrics({ entries: () => cache.entries() }, config.cache.max_bytes);
  const cache: NodeCache = makeCache(config, native, transfers, log, metrics, (id) => {
    try {
      return remote.sourceOf(id);
    } catch (error) {
      // Credentials that cannot be read now may be later.
      log.error({ id, error: describeError(error).message }, 'no source');
      return undefined;
    }
  });
  closers.push(() => cache.close());
  const remote: RemoteLayers = new RemoteLayers({
    snapshotter,
    cache,
    openSource: (imageRef) => {
      transfers.warm();
      return registries.source(imageRef);
    },
    indexTimeoutMs: config.fetch.index_timeout_ms,
    log,
    onIndexFailed: (error) => metrics?.fetches.indexFailed(fetchErrorKind(error)),
  });
  const progress = setInterval(() => logProgress(cache, log), PROGRESS_MS);
  closers.push(() => clearInterval(progress));
  await cache.recover();

  const checkpoints = new TtrpcServer({
    services: checkpointServices({
      snapshotter,
      remote,
      cache,
      openBeneath: native.openBeneath,
      layersOfContainer: containerdLayers(config.containerd_address),
      log,
      onLocated: (presentBytes) => metrics?.fetches.read('cache', presentBytes),
      onStart: (report) => metrics?.starts.told(report),
    }),
    onError: (error) => log.debug({ error: describeError(error).message }, 'connection failed'),
  });
  const socket = join(config.state, 'thaw.sock');
  claimSocket(config.state, socket);
  await checkpoints.listen({ path: socket });
  closers.push(() => checkpoints.close(GRACE_MS));
  await chmod(socket, 0o600);

  const snapshots = new SnapshotsServer({
    snapshotter,
    prepare: async (key, parent, labels, signal) => {
      if (await remote.provide(parent, labels, signal))
        throw alreadyExists(`Layer of snapshot "${key}" is here already`);
      return snapshotter.create('active', key, parent, labels);
    },
    remove: (key) => {
      const { checkpoint } = snapshotter.remove(key);
      if (checkpoint !== undefined) void evictUnused(cache, checkpoint, log);
    },
    usage: (key) => usageWithCache(snapshotter, cache, key),
    log,
    onAnswered: metrics && ((rpc, code, ms) => metrics.rpcs.answered(rpc, code, ms)),
  });
  claimSocket(dirname(config.address), config.address);
  closers.push(() => snapshots.close(GRACE_MS));
  await snapshots.listen(config.address);

  if (metricsModule && metrics && config.metrics.address !== undefined) {
    const server = new metricsModule.MetricsServer(metrics);
    closers.push(() => server.close());
    await server.listen(config.metrics.address);
  }
}

/** What systemd said to this process alone is no business of a credential helper. */
function forHelpers(environment: Readonly<Record<string, string | undefined>>) {
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => !/^(NOTIFY_SOCKET|WATCHDOG_|LISTEN_|THAW_)/.test(name)),
  );
}

function makeCache(
  config: Config,
  native: Addon,
  transfers: Transfers,
  log: Logger,
  metrics: Metrics | undefined,
  reopen: (id: string) => ReturnType<RemoteLayers['sourceOf']>,
): NodeCache {
  return new NodeCache({
    directory: layoutOf(config.root).cache,
    tryLock: native.tryLock,
    reopen,
    maxBytes: config.cache.max_bytes === undefined ? undefined : BigInt(config.cache.max_bytes),
    now: Date.now,
    entry: {
      transfers,
      limiter: new Limiter(config.fetch.connections),
      demandLimiter: new Limiter(config.fetch.connections),
      parallel: config.fetch.connections,
      clock: () => performance.now(),
      bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    },
    events: cacheEvents(log, metrics),
  });
}

/** No image needs the checkpoint any more; a container that is being restored from it may. */
async function evictUnused(cache: NodeCache, id: string, log: Logger): Promise<void> {
  try {
    const freedBytes = await cache.evict(id);
    log.info({ id, freedBytes: Number(freedBytes) }, 'evicted with its image');
  } catch (error) {
    const { code, message } = describeError(error);
    if (code !== Code.notFound) log.warn({ id, error: message }, 'not evicted');
  }
}
