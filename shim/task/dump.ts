/** `runc checkpoint` with what surrounds it. */
import { copyFile, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Code, describeError } from '../../proto/status.ts';
import { criuErrors, criuSaid, withoutLogFile } from '../criu-log.ts';
import { dumpAdvice } from '../dump-advice.ts';
import { ShimError } from '../error.ts';
import type { Log } from '../log.ts';
import { bundlePaths } from './bundle.ts';
import type { ContainerConfig } from './container-config.ts';
import type { DumpOptions } from './options.ts';
import type { AfterResume, PrepareDump } from './start-plan.ts';

export interface DumpRequest extends Omit<ContainerConfig, 'options' | 'stdio'> {
  pid: number;
  paused: boolean;
  /** Where the images go, unless the options name another place. */
  path: string;
  options: DumpOptions;
  prepareDump: PrepareDump;
  /** Told what is left to do once the container is resumed. */
  onResume(afterResume: AfterResume): void;
  log: Log;
}

/** Leaves the container as it was (or ended, with `exit`). Errors quote what CRIU says about the resource it stumbled on. */
export async function dump(request: DumpRequest): Promise<void> {
  const { id, namespace, bundle, spec, runc, pid, paused, options, log } = request;
  const imagePath = request.path || options.imagePath;
  if (!imagePath)
    throw new ShimError(Code.invalidArgument, 'Cannot checkpoint without a directory for the images');
  const ownWork = options.workPath === '';
  const workPath = options.workPath || join(bundlePaths(bundle).work, 'criu-work');
  await mkdir(imagePath, { recursive: true, mode: 0o700 });
  await mkdir(workPath, { recursive: true, mode: 0o700 });
  const begun = performance.now();
  try {
    const session = await request.prepareDump({
      id,
      namespace,
      bundle,
      spec,
      pid,
      imagePath,
      workPath,
      paused,
      exit: options.exit,
      openTcp: options.openTcp,
      runc,
      log,
    });
    let outcome: 'dumped' | 'failed' = 'failed';
    try {
      await runc.checkpoint({
        id,
        imagePath,
        workPath,
        leaveRunning: !options.exit,
        tcpEstablished: options.openTcp,
        externalUnixSockets: options.externalUnixSockets,
        shellJob: options.terminal,
        fileLocks: options.fileLocks,
        emptyNamespaces: options.emptyNamespaces,
        ...(options.parentPath ? { parentPath: options.parentPath } : {}),
        extra: session.extraArgs,
      });
      outcome = 'dumped';
    } finally {
      const afterResume = await session.finish(outcome);
      if (afterResume) request.onResume(afterResume);
    }
    if (ownWork) await keepStatistics(workPath, imagePath);
    log.info({ container: id, path: imagePath, ms: Math.round(performance.now() - begun) }, 'dumped');
  } catch (cause) {
    throw await explain(cause, join(workPath, 'dump.log'), join(bundle, 'criu-dump.log'));
  } finally {
    if (ownWork) await rm(workPath, { recursive: true, force: true });
  }
}

/** How long CRIU took for what, which tools that look at checkpoints show. It writes that where its logs go. */
async function keepStatistics(workPath: string, imagePath: string): Promise<void> {
  const name = 'stats-dump';
  await copyFile(join(workPath, name), join(imagePath, name)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

async function explain(cause: unknown, dumpLog: string, keptLog: string): Promise<ShimError> {
  const { code, message: said } = describeError(cause);
  const message = withoutLogFile(said);
  const text = await readFile(dumpLog, 'utf8').catch(() => '');
  if (!text) return new ShimError(code, message, { cause });
  await copyFile(dumpLog, keptLog);
  const criuWords =
    criuErrors(text).length > 0
      ? `OCI runtime checkpoint failed: ${criuSaid(text)}`
      : `${message} (${criuSaid(text)})`;
  const advice = dumpAdvice(text);
  const quoted = advice ? `${advice} (${criuWords})` : criuWords;
  return new ShimError(code, `${quoted} path= ${keptLog}`, { cause });
}
