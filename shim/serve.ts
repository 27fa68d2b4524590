/** The server process: puts the task service together and lives as long as the pod has containers. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import type { Addon } from '../native/index.ts';
import { Code, describeError } from '../proto/status.ts';
import { TtrpcServer } from '../proto/ttrpc/index.ts';
import { removeSocket, type ShimFlags } from './bootstrap/index.ts';
import { CgroupFinder } from './cgroup/index.ts';
import { ShimError } from './error.ts';
import { ContainerdSink, EventQueue, encodeEvent, encodeForward } from './events/index.ts';
import { Footprint } from './footprint.ts';
import { openLog } from './log.ts';
import { ExitWatcher } from './process/exits.ts';
import { ChildSpawner } from './process/spawn.ts';
import { Runc } from './runc/runc.ts';
import { bundlePaths, runcRoot } from './task/bundle.ts';
import { type PrepareDump, type StartPlanner, TaskService } from './task/index.ts';

export interface ServeContext {
  calls: Addon;
  /** Bundle of the container that the server was started for. */
  bundle: string;
  /** Environment of runc. */
  env: Readonly<Record<string, string>>;
  /** Soft limit of descriptors that the launcher was started with and containers inherit; 0 if it is not known. */
  openFiles: number;
  /** containerd's ttrpc socket, for events. */
  ttrpcAddress: string;
  planner: StartPlanner;
  prepareDump: PrepareDump;
  /** Keeps compiled code for the next server, if it has none. */
  keepCode(): void;
  exit: (status: number) => void;
}

/** Descriptor of the listening socket that `start` passes. */
const LISTENER = 3;
/** A containerd that died while it made the first container never asks this server for anything. */
const FIRST_CONTAINER_MS = 60_000;
/** After a Delete comes a Shutdown, at once; never from a containerd that was killed in between, or whose call was given up. */
const LAST_CONTAINER_MS = 10_000;
const FLUSH_MS = 5_000;
/**
 * For calls that have not been answered: a Kill whose runc is slower than the exit, delete and shutdown that follow from
 * it would be an error for the kubelet (seen on a busy machine).
 */
const GRACE_MS = 10_000;

export async function serve(flags: ShimFlags, context: ServeContext): Promise<void> {
  const { calls, namespace, log } = {
    ...context,
    namespace: flags.namespace,
    log: openLog(context.bundle, flags.debug),
  };
  const onError = (error: unknown) => log.warn({ reason: describeError(error).message }, 'unexpected error');
  // Ending would take every container of the pod with it.
  process.on('uncaughtException', (error) =>
    log.error({ reason: error.message, stack: error.stack }, 'uncaught error'),
  );
  process.on('unhandledRejection', (error) =>
    log.error({ reason: describeError(error).message }, 'unhandled rejection'),
  );

  calls.setChildSubreaper(true);
  const spawner = new ChildSpawner(calls, context.openFiles);
  const watcher = new ExitWatcher({ calls, ownedElsewhere: (pid) => spawner.owns(pid), onError });
  process.on('SIGCHLD', () => watcher.childEnded());
  for (const signal of ['SIGPIPE', 'SIGHUP'] as const) process.on(signal, () => {});
  // By default Node opens a debugger port on this signal; containerd's own shim says what it is doing.
  process.on('SIGUSR1', () =>
    log.info({ ...process.memoryUsage(), resources: process.getActiveResourcesInfo() }, 'state asked for'),
  );
  // An administrator's or the machine's end. Containers go on; containerd finds that their shim is gone.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void end(signal, true));

  const events = new EventQueue({
    sink: new ContainerdSink(context.ttrpcAddress, namespace),
    onLost: onError,
  });

  let ending = false;
  /** From here on `start` of another container, also of one with the same name, finds nobody and starts a server of its own. */
  const leave = (): void => {
    ending = true;
    try {
      removeSocket(flags.socket);
    } catch (error) {
      onError(error);
    }
  };
  const finish = async (reason: string): Promise<void> => {
    log.debug({ reason }, 'ending');
    await Promise.all([events.close(FLUSH_MS), server.close(GRACE_MS)]);
    footprint.ending();
    context.exit(0);
  };
  const end = async (reason: string, whatever = false) => {
    if (ending || (!service.empty && !whatever)) return;
    leave();
    await finish(reason);
  };
  const endUnused = (ms: number) => setTimeout(() => void end('no container'), ms);
  let unused = endUnused(FIRST_CONTAINER_MS);

  const service = new TaskService({
    namespace,
    shimPid: process.pid,
    calls,
    watcher,
    log,
    now: () => calls.realtime(),
    publish: (event) => events.push(encodeForward(encodeEvent(event), namespace, calls.realtime())),
    planner: context.planner,
    prepareDump: context.prepareDump,
    cgroups: new CgroupFinder(calls),
    makeRunc: (bundle, options) =>
      new Runc(
        {
          binary: options.binaryName || 'runc',
          root: runcRoot(options, namespace),
          systemdCgroup: options.systemdCgroup,
          env: context.env,
          logFile: bundlePaths(bundle).log,
        },
        spawner,
      ),
    readConfig: (path) => readFile(path, 'utf8'),
    hasSeccomp: () => existsSync('/proc/sys/kernel/seccomp/actions_avail'),
    onContainer: () => clearTimeout(unused),
    onEmpty: () => {
      clearTimeout(unused);
      unused = endUnused(LAST_CONTAINER_MS);
    },
    // The socket goes before the answer: containerd, once it has that, may start the next container under the same name.
    onShutdown: () => {
      if (ending) return;
      leave();
      // The answer leaves before the server ends.
      setImmediate(() => void finish('shutdown'));
    },
  });
  const footprint = new Footprint({
    calls,
    resident: () => process.memoryUsage.rss(),
    engine: async () => (await import('./engine.ts')).engine,
    keepCode: () => context.keepCode(),
    onError,
  });
  const server = new TtrpcServer({
    services: service.services(),
    onAnswered: () => footprint.called(),
    authorize: (socket) => authorize(socket, calls),
    onError,
  });
  await server.listen({ fd: LISTENER });
  log.debug({ socket: flags.socket }, 'serving');
}

/** Only our own user, whatever the modes of the socket and its directory. */
function authorize(socket: Socket, calls: Pick<Addon, 'peerCredentials'>): void {
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd ?? -1;
  const { uid, gid, pid } = calls.peerCredentials(fd);
  if (uid === process.geteuid?.() && gid === process.getegid?.()) return;
  throw new ShimError(Code.permissionDenied, 'Refused a connection of another user', {
    context: { uid, gid, pid },
  });
}
