/** Puts the parts together: one daemon from start to end. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { chmod, rename } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { CredentialStore, type FindCredentials } from '../checkpoint/registry/index.ts';
import type { Addon } from '../native/index.ts';
import { Code, describeError } from '../proto/status.ts';
import { TtrpcServer } from '../proto/ttrpc/index.ts';
import { Calm, DirectTransfers, Limiter, NodeCache, type Transfers } from './cache/index.ts';
import { cacheEvents, logProgress } from './cache-events.ts';
import { usageWithCache } from './cache-usage.ts';
import { checkpointServices, containerdLayers } from './checkpoints/index.ts';
import type { Config } from './config.ts';
import { alreadyExists } from './error.ts';
import { FetchThreads, type FetchThreadsOptions } from './fetch/index.ts';
import { fetchErrorKind } from './fetch-errors.ts';
import { type GrpcServer, SnapshotsServer } from './grpc/index.ts';
import { Health } from './health.ts';
import { checkInherited, type InheritedSockets, listeningDescriptor } from './inherited-sockets.ts';
import { startHolder } from './layers/holder.ts';
import { LazyLayers } from './layers/index.ts';
import type { Metrics } from './metrics/index.ts';
import {
  Directories,
  OverlaySnapshotter,
  overlayOptions,
  thisKernel,
  writableOptions,
} from './overlay/index.ts';
import { RemoteLayers, TARGET_LABEL } from './remote/index.ts';
import { Registries } from './remote/registries.ts';
import { awaitRoot, claimSocket, layoutOf } from './root-directory.ts';
import { SnapshotStore } from './store/index.ts';

export interface Daemon {
  /** What it listens on. */
  readonly sockets: InheritedSockets;
  /**
   * Stops accepting, lets calls in flight finish, ends fetches. What is incomplete is fetched anew at the next start.
   * `handOver`: another daemon has the sockets too, and answers next.
   */
  close(options?: { handOver?: boolean }): Promise<void>;
}

/** A thread fetches some 2 Gbit/s. */
const MAX_FETCH_THREADS = 8;
const FETCH_IDLE_MS = 60_000;
/** How long after what somebody needs nothing comes in the background: a start has link and processors to itself. */
const CALM_MS = 1000;
const LONGEST_UNREST_MS = 30_000;
/** They wait for the disk and copy; the waits for frames are none of theirs. */
const MAX_LAYER_THREADS = 4;
const PROGRESS_MS = 10_000;
/** Calls in flight get so long at the end. */
const GRACE_MS = 5_000;
/** Longest wait for the daemon before to end. */
const TAKE_OVER_MS = 30_000;
/** What takes longer there is a wait for chunks, which shims repeat. */
const CHECKPOINTS_GRACE_MS = 1_000;

/** What the process got from whoever started it. */
export interface Inherited {
  environment: Readonly<Record<string, string | undefined>>;
  sockets: InheritedSockets;
  /** It takes the place of a daemon that runs, and is told when only that one's end is missing. */
  onLoaded?: (() => void) | undefined;
}

type Closer = () => void | Promise<void>;

/** Throws, with nothing left behind, if it cannot serve. */
export async function startDaemon(
  config: Config,
  native: Addon,
  log: Logger,
  inherited: Inherited,
): Promise<Daemon> {
  const parts: Parts = { ends: [], lastEnds: [], sockets: new Map() };
  const close = async ({ handOver = false } = {}) => {
    if (handOver) parts.keepPaths = true;
    for (const end of parts.ends.splice(0).reverse()) await end();
    for (const end of parts.lastEnds.splice(0).reverse()) await end();
  };
  try {
    await start(config, native, log, inherited, parts);
    return { close, sockets: parts.sockets };
  } catch (error) {
    await close();
    throw error;
  }
}

interface Parts {
  /** What ends first, in reverse order, while containerd is still answered: it waits for a new daemon only a second. */
  ends: Closer[];
  lastEnds: Closer[];
  sockets: Map<string, number>;
  /** Others listen on the sockets. */
  keepPaths?: boolean;
}

async function start(
  config: Config,
  native: Addon,
  log: Logger,
  { environment, sockets, onLoaded }: Inherited,
  parts: Parts,
): Promise<void> {
  const { ends, lastEnds } = parts;
  const checkpointsSocket = join(config.state, 'thaw.sock');
  const imageServiceSocket = config.image_service.address;
  checkInherited(sockets, [
    config.address,
    checkpointsSocket,
    ...(imageServiceSocket ? [imageServiceSocket] : []),
  ]);
  const imageServiceModule =
    config.image_service.address === undefined ? undefined : await import('./image-service/index.ts');
  const metricsModule = config.metrics.address === undefined ? undefined : await import('./metrics/index.ts');
  onLoaded?.();
  lastEnds.push(await awaitRoot(config.root, native.tryLock, onLoaded ? TAKE_OVER_MS : 0));
  const layout = layoutOf(config.root);
  const store = new SnapshotStore(layout.database, (error) =>
    log.warn({ error: describeError(error).message }, 'metadata log kept'),
  );
  lastEnds.push(() => store.close());
  const layers: LazyLayers = new LazyLayers({
    want: (id, frames, signal) => cache.want(id, frames, signal),
    native,
    device: {
      directory: layout.layers,
      recordFile: join(config.state, 'layers.json'),
      calls: {
        mount: native.mount,
        umount: native.umount,
        takeDescriptor: native.takeDescriptor,
        startHolder: (device) => startHolder(native, holderProgram(), device),
      },
    },
    threads: Math.min(availableParallelism(), MAX_LAYER_THREADS),
    readTimeoutMs: config.fetch.read_timeout_ms,
    mounts: config.layers.mounts,
    log,
  });
  const kernel = thisKernel();
  const snapshotter = new OverlaySnapshotter({
    store,
    directories: new Directories(layout.snapshots, native, (directory) => layers.unmount(directory)),
    mountOptions: overlayOptions(kernel),
    writableOptions: writableOptions(config.overlay, kernel),
    now: native.realtime,
    events: {
      onNotDeleted: (error) => log.error({ error: describeError(error).message }, 'directory not deleted'),
      onRemade: (name) => log.warn({ name }, 'directory was gone, made again'),
      onNotRemade: (name, error) =>
        log.error(
          { name, error: describeError(error).message },
          'directory is not whole, and cannot be mended',
        ),
      onLost: (names) => log.error({ names }, 'files of committed snapshots are gone'),
    },
  });
  ends.push(() => snapshotter.settle());
  lastEnds.push(() => snapshotter.settle());
  await snapshotter.recover();

  const kept =
    imageServiceModule &&
    new imageServiceModule.KeptCredentials(config.image_service.keep_credentials_s * 1000);
  ends.push(() => kept?.close());
  const files = new CredentialStore({
    dockerConfig:
      config.docker_config === undefined ? undefined : { path: config.docker_config, required: true },
    pullSecrets: config.pull_secrets,
    environment: forHelpers(environment),
  });
  ends.push(() => files.close());
  // What a kubelet gave for this very repository is newer than what lies in files.
  const findCredentials: FindCredentials = async (request) =>
    kept?.find(request) ?? (await files.find(request));
  const setup: FetchThreadsOptions['setup'] = {
    hosts: Object.fromEntries(
      Object.entries(config.registries).map(([host, { plain_http: plainHttp, mirrors }]) => [
        host,
        { plainHttp, mirrors },
      ]),
    ),
    hostsDirs: config.hosts_dirs,
  };
  const registries = new Registries({ ...setup, credentials: findCredentials });
  ends.push(() => registries.close());
  const transfers = new FetchThreads({
    setup,
    credentials: findCredentials,
    threads: Math.min(availableParallelism(), MAX_FETCH_THREADS),
    direct: new DirectTransfers(native.writeChunk),
    idleMs: FETCH_IDLE_MS,
  });
  ends.push(() => transfers.close());
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
  ends.push(() => cache.close());
  ends.push(() => layers.close());
  const remote: RemoteLayers = new RemoteLayers({
    snapshotter,
    cache,
    openSource: (imageRef) => {
      transfers.warm();
      return registries.source(imageRef);
    },
    indexTimeoutMs: config.fetch.index_timeout_ms,
    mountLayer: (entry, directory) => layers.mount(entry, directory),
    log,
    onIndexFailed: (error) => metrics?.fetches.indexFailed(fetchErrorKind(error)),
  });
  const progress = setInterval(() => logProgress(cache, log), PROGRESS_MS);
  ends.push(() => clearInterval(progress));
  await cache.recover();
  await layers.restore(await remote.lazyLayers(), (id) => snapshotter.lose(id));

  const checkpoints = new TtrpcServer({
    services: checkpointServices({
      snapshotter,
      remote,
      cache,
      layers,
      openBeneath: native.openBeneath,
      layersOfContainer: containerdLayers(config.containerd_address),
      log,
      onLocated: (presentBytes) => metrics?.fetches.read('cache', presentBytes),
      onStart: (report) => metrics?.starts.told(report),
    }),
    onError: (error) => log.debug({ error: describeError(error).message }, 'connection failed'),
  });
  ends.push(() => checkpoints.close(CHECKPOINTS_GRACE_MS));
  await listen(checkpoints, checkpointsSocket, config.state, sockets, parts);

  const stopping = new AbortController();
  const providing = new Set<Promise<boolean>>();
  const snapshots = new SnapshotsServer({
    snapshotter,
    prepare: async (key, parent, labels, signal) => {
      if (labels[TARGET_LABEL] !== undefined && !stopping.signal.aborted) {
        const provided = remote.provide(parent, labels, AbortSignal.any([signal(), stopping.signal]));
        providing.add(provided);
        if (await provided.finally(() => providing.delete(provided)))
          throw alreadyExists(`Layer of snapshot "${key}" is here already`);
      }
      return snapshotter.create('active', key, parent, labels);
    },
    remove: async (key) => {
      const { cached } = await snapshotter.remove(key);
      if (cached !== undefined) void evictUnused(cache, cached, log);
    },
    usage: (key) => usageWithCache(snapshotter, cache, key),
    log,
    onAnswered: metrics && ((rpc, code, ms) => metrics.rpcs.answered(rpc, code, ms)),
  });
  lastEnds.push(() => snapshots.close(GRACE_MS));
  await listen(snapshots, config.address, dirname(config.address), sockets, parts);
  // A pull that waits for its registry ends with what needs none rather than with an error.
  ends.push(async () => {
    await Promise.race([Promise.allSettled(providing), sleep(GRACE_MS, undefined, { ref: false })]);
    stopping.abort();
  });

  if (imageServiceModule && kept && imageServiceSocket !== undefined) {
    const images = new imageServiceModule.ImageService({
      address: config.containerd_address,
      keep: (repository, credentials) => kept.keep(repository, credentials),
      log,
    });
    ends.push(() => images.close(GRACE_MS));
    await listen(images, imageServiceSocket, dirname(imageServiceSocket), sockets, parts);
  }

  if (metricsModule && metrics && config.metrics.address !== undefined) {
    const server = new metricsModule.MetricsServer(metrics, new Health(config.root, snapshotter));
    ends.push(() => server.close());
    await server.listen(config.metrics.address);
  }
}

/** On a socket that others hold too, in which callers wait while there is no daemon; else on one of its own. */
async function listen(
  server: TtrpcServer | GrpcServer,
  path: string,
  directory: string,
  sockets: InheritedSockets,
  parts: Parts,
): Promise<void> {
  const inherited = sockets.get(path);
  if (inherited !== undefined) {
    await server.listen({ fd: inherited });
    parts.sockets.set(path, inherited);
    return;
  }
  claimSocket(directory, path);
  // libuv removes the name that it bound when it closes, also where another daemon listens on: so that is another name.
  const bound = `${path}.new`;
  claimSocket(directory, bound);
  await server.listen({ path: bound });
  await chmod(bound, 0o600);
  const fd = listeningDescriptor(bound);
  await rename(bound, path);
  if (fd !== undefined) parts.sockets.set(path, fd);
  // While the root is still locked: afterwards the name may be another daemon's.
  parts.lastEnds.push(() => {
    if (!parts.keepPaths) rmSync(path, { force: true });
  });
}

/** Beside the bundle on a node; in build/ in a checkout. */
function holderProgram(): string {
  const places = ['../bin', '../build'].map((place) =>
    join(import.meta.dirname, place, 'containerd-shim-thaw-v2'),
  );
  return places.find((place) => existsSync(place)) ?? places[0] ?? '';
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
      soonLimiter: new Limiter(config.fetch.connections),
      calm: new Calm({ ms: CALM_MS, atMostMs: LONGEST_UNREST_MS, clock: () => performance.now() }),
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
