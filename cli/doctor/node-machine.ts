/** The node that the command runs on. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, mkdir, mkdtemp, readdir, readFile, rm, statfs, unlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { release } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { INDEX_ANNOTATION } from '../../checkpoint/annotation.ts';
import { native } from '../../native/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { DoctorOptions } from '../commands/handlers.ts';
import { type Containerd, createContainerd } from '../containerd/index.ts';
import { manifestOf } from '../containerd/manifest.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { orUndefined } from '../missing.ts';
import { withDaemon } from '../node/daemon.ts';
import type { ContainerdView, ImageFacts, Machine, Ran } from './machine.ts';

const RUN_MS = 30_000;
const DIAL_MS = 2_000;
const MNT_DETACH = 2;
const MAX_OUTPUT = 16 << 20;
/** Source: containerd, pkg/unpack: on the configuration's blob, for each snapshotter that has the image unpacked. */
const UNPACKED_LABEL = 'containerd.io/gc.ref.snapshot.';

export function nodeMachine(options: DoctorOptions, context: Context): Machine & { close(): void } {
  const connections: Promise<Containerd>[] = [];
  const containerd = () => {
    connections[0] ??= createContainerd(options).then((made) => made.within({ signal: context.signal }));
    return connections[0];
  };
  const PATH = searchPath(context.env);
  return {
    kernel: release(),
    readText: (path) => orUndefined(readFile(path, 'utf8')),
    exists: async (path) => (await orUndefined(access(path).then(() => true))) ?? false,
    list: async (path) => (await orUndefined(readdir(path))) ?? [],
    env: (name) => context.env[name],
    run: (program, args, ms = RUN_MS) => run(program, args, { ...context.env, PATH }, context.signal, ms),
    which: (program) => which(program, PATH),
    async diskSpace(path) {
      const { bsize, blocks, bavail, files, ffree } = await statfs(await existing(path), { bigint: true });
      return {
        totalBytes: blocks * bsize,
        freeBytes: bavail * bsize,
        totalInodes: files,
        freeInodes: ffree,
      };
    },
    tryOverlay,
    dial,
    checkpoints: (socket) => withDaemon(socket, context.signal, (daemon) => daemon.list()),
    containerd: containerdView(containerd),
    close: () => {
      void connections[0]?.then(
        (made) => made.close(),
        () => {},
      );
    },
  };
}

/** With the CRIU that thaw brings along before all others, as runc gets it, and thaw's own programs. */
function searchPath(env: Context['env']): string {
  const installed = dirname(import.meta.dirname);
  return [
    join(installed, 'criu'),
    env['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    join(installed, 'bin'),
  ].join(delimiter);
}

function run(
  program: string,
  args: readonly string[],
  env: Context['env'],
  signal: AbortSignal,
  timeout: number,
): Promise<Ran | undefined> {
  return new Promise((resolve, reject) => {
    const options = {
      env: { ...env },
      timeout,
      maxBuffer: MAX_OUTPUT,
      killSignal: 'SIGKILL',
      signal,
    } as const;
    execFile(program, args, options, (error, stdout, stderr) => {
      if (!error) return resolve({ code: 0, stdout, stderr });
      if (error.code === 'ENOENT') return resolve(undefined);
      if (signal.aborted) return reject(new CliError(Code.canceled, `Interrupted while ${program} ran`));
      return resolve({ code: typeof error.code === 'number' ? error.code : undefined, stdout, stderr });
    });
  });
}

async function which(program: string, path: string): Promise<string | undefined> {
  for (const dir of path.split(delimiter)) {
    const candidate = join(dir, program);
    const found = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return candidate;
  }
  return undefined;
}

async function existing(path: string): Promise<string> {
  const found = await orUndefined(access(path).then(() => true));
  return found || path === '/' ? path : existing(dirname(path));
}

/** Also whether what is deleted stays deleted: without d_type in directories, whiteouts show up as files. */
async function tryOverlay(path: string): Promise<string | undefined> {
  const dir = await mkdtemp(join(await existing(path), '.thaw-doctor-'));
  const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) =>
    join(dir, name),
  ) as [string, string, string, string];
  try {
    for (const each of [lower, upper, work, merged]) await mkdir(each);
    await writeFile(join(lower, 'deleted'), '');
    native.mount('overlay', merged, 'overlay', 0, `lowerdir=${lower},upperdir=${upper},workdir=${work}`);
    try {
      await unlink(join(merged, 'deleted'));
      const left = await readdir(merged);
      return left.includes('deleted') ? 'a deleted file shows up again, as it lacks d_type' : undefined;
    } finally {
      native.umount(merged, MNT_DETACH);
    }
  } catch (error) {
    return describeError(error).message;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

function dial(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, timeout: DIAL_MS });
    const refuse = (why: string) => {
      socket.destroy();
      reject(new CliError(Code.unavailable, `nobody answers at ${path} (${why})`));
    };
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
    socket.once('timeout', () => refuse(`within ${DIAL_MS} ms`));
    socket.once('error', (error: NodeJS.ErrnoException) => refuse(error.code ?? error.message));
  });
}

function containerdView(connect: () => Promise<Containerd>): ContainerdView {
  return {
    version: async () => (await connect()).version(),
    async trySnapshotter(name) {
      const snapshots = (await connect()).snapshots(name);
      const key = `thaw-doctor-${randomBytes(8).toString('hex')}`;
      await snapshots.prepare(key, '');
      await snapshots.remove(key);
    },
    async images() {
      const containerd = await connect();
      const facts: ImageFacts[] = [];
      for (const { name } of await containerd.images.list()) {
        // CRI gives an image three names; its digest and its id tell a reader nothing.
        if (name.startsWith('sha256:') || name.includes('@')) continue;
        const found = await imageFacts(containerd, name);
        if (found) facts.push(found);
      }
      return facts;
    },
    async containers() {
      const list = await (await connect()).containers.list();
      return list.map(({ id, image, runtime, snapshotter }) => ({ id, image, runtime, snapshotter }));
    },
  };
}

/** Undefined for an image that is not all there: it cannot be looked into. */
async function imageFacts(containerd: Containerd, name: string): Promise<ImageFacts | undefined> {
  try {
    const { config, layers } = await manifestOf(containerd, name);
    const labels = (await containerd.content.find(config.digest))?.labels ?? {};
    const unpackedBy = Object.keys(labels)
      .filter((label) => label.startsWith(UNPACKED_LABEL))
      .map((label) => label.slice(UNPACKED_LABEL.length));
    return { name, isCheckpoint: layers[0]?.annotations?.[INDEX_ANNOTATION] !== undefined, unpackedBy };
  } catch (error) {
    if (describeError(error).code === Code.canceled) throw error;
    return undefined;
  }
}
