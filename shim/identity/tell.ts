/**
 * Tells a restored container that it was restored: a file that is there before its process runs, then the files of
 * Dynamo's workloads, a signal and a command. It comes with the rights that the pod gives, whatever the checkpoint says.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AfterRestore } from '../../checkpoint/facts.ts';
import { Code, describeError } from '../../proto/status.ts';
import type { Log } from '../log.ts';
import type { Runc } from '../runc/runc.ts';
import { bundlePaths, processJson } from '../task/bundle.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import type { RuncStdio } from '../task/start-plan.ts';
import { ipv4Addresses, ipv6Addresses } from './addresses.ts';
import { signalNumber } from './after-restore.ts';
import { type BeneathCalls, type FileRights, readBeneath, removeBeneath, writeBeneath } from './beneath.ts';
import { CONTEXT_FILE, controlDirectory, RESTORED_FILE, restoreContext } from './dynamo.ts';
import { IdentityError } from './error.ts';
import { hostPlace } from './place.ts';
import { randomHex } from './random.ts';
import { type Origin, RESTORE_FILE, restoreFile } from './restore-file.ts';

/** How long the command may take. With it, a restore and a cold start still fit into a kubelet's two minutes. */
const EXEC_DEADLINE_MS = 20_000;

export interface TellInput {
  id: string;
  bundle: string;
  spec: OciSpec;
  runc: Runc;
  stdio: RuncStdio;
  workDir: string;
  log: Log;
  /** Of the pod. */
  hostname: string | undefined;
  checkpoint: Origin;
  afterRestore: AfterRestore;
}

/** How a running container's files are reached. */
export interface ContainerFiles {
  calls: BeneathCalls;
  /** Its root directory, as its processes see it. */
  rootOf(pid: number): string;
}

export interface TellDeps extends ContainerFiles {
  /** Reads a file in a thread that has joined the namespaces. */
  readInNamespaces(path: string, namespaces: readonly string[]): string | undefined;
}

/** Of one restore. */
export interface Telling {
  /** Before CRIU runs: the root file system is mounted. What cannot be written is logged, no reason not to restore. */
  before(): void;
  /** The process runs. Rejects where the command fails: the container must be killed then. */
  running(pid: number): Promise<void>;
  /** After a failure, the process being gone. */
  takeBack(): void;
}

export function telling(input: TellInput, deps: TellDeps): Telling {
  const { id, bundle, spec, log } = input;
  const { calls, rootOf } = deps;
  const content = restoreFile(
    {
      id: randomHex(16),
      restoredAt: new Date().toISOString(),
      containerId: id,
      hostname: input.hostname ?? spec.hostname,
      addresses: addressesOf(spec, deps),
      seed: randomHex(32),
      checkpoint: input.checkpoint,
    },
    spec,
  );
  const control = controlDirectory(spec);
  const mine: FileRights = { ...processOwner(spec), mode: 0o400 };
  const place = hostPlace(spec, bundle, RESTORE_FILE);
  const stale = control === undefined ? undefined : hostPlace(spec, bundle, join(control, RESTORED_FILE));
  const attempt = (what: string, work: () => void) => {
    try {
      work();
    } catch (error) {
      log.warn({ container: id, file: what, reason: describeError(error).message }, 'not told');
    }
  };
  return {
    before() {
      // Of a container before this one in the same pod: whoever finds it would go on before its GPU is there.
      if (stale) attempt(RESTORED_FILE, () => removeBeneath(stale, calls));
      if (place) attempt(RESTORE_FILE, () => writeBeneath(place, content, mine, true, calls));
    },
    async running(pid) {
      const root = rootOf(pid);
      attempt(RESTORE_FILE, () => {
        const seen = { root, path: RESTORE_FILE.slice(1) };
        // A tmpfs lies over it, or a volume whose mount point is a link in the image.
        if (readBeneath(seen, calls)?.toString('utf8') !== content)
          writeBeneath(seen, content, mine, true, calls);
      });
      if (control !== undefined) {
        const files: [string, string, FileRights][] = [
          [CONTEXT_FILE, restoreContext(spec), mine],
          [RESTORED_FILE, '', { ...mine, mode: 0o644 }],
        ];
        for (const [name, text, rights] of files) {
          const path = join(control, name).slice(1);
          attempt(name, () => writeBeneath({ root, path }, text, rights, false, calls));
        }
      }
      const { signal, exec } = input.afterRestore;
      if (signal !== undefined) sendSignal(pid, signal);
      if (exec !== undefined) await runInContainer(exec, input);
    },
    takeBack() {
      if (place) attempt(RESTORE_FILE, () => removeBeneath(place, calls));
      if (stale) attempt(RESTORED_FILE, () => removeBeneath(stale, calls));
    },
  };
}

/** The environment may hold secrets: it is for the pod's own user. */
export function processOwner({ process }: OciSpec): Pick<FileRights, 'uid' | 'gid'> {
  return { uid: process?.user?.uid ?? 0, gid: process?.user?.gid ?? 0 };
}

function sendSignal(pid: number, name: string): void {
  try {
    process.kill(pid, signalNumber(name));
  } catch (error) {
    // It has ended already; that is told as its exit.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** By runc, as `exec` would: as the pod's own process, with its capabilities, seccomp profile and limits. */
async function runInContainer(command: readonly string[], input: TellInput): Promise<void> {
  const { id, bundle, runc, workDir, stdio, log } = input;
  const file = join(workDir, 'restored-exec.json');
  const began = performance.now();
  writeFileSync(file, processJson(readFileSync(bundlePaths(bundle).config, 'utf8'), command), {
    mode: 0o600,
  });
  try {
    await runc.run(
      { id, process: file },
      { stdio: ['ignore', stdio[1], stdio[2]], deadlineMs: EXEC_DEADLINE_MS },
    );
  } catch (cause) {
    const { message } = describeError(cause);
    throw new IdentityError(Code.aborted, `The command after the restore failed: ${message}`, { cause });
  }
  log.info({ container: id, ms: Math.round(performance.now() - began) }, 'command after the restore is done');
}

function addressesOf(spec: OciSpec, { readInNamespaces }: TellDeps): string[] {
  const network = spec.linux?.namespaces?.find(({ type }) => type === 'network');
  // One of its own is made by CRIU, and has none yet.
  if (network && !network.path) return [];
  const joined = network?.path ? [network.path] : [];
  const read = (name: string) => {
    try {
      return readInNamespaces(`/proc/thread-self/net/${name}`, joined) ?? '';
    } catch {
      // The host's own may be longer than what is read at once.
      return '';
    }
  };
  return [...ipv4Addresses(read('fib_trie')), ...ipv6Addresses(read('if_inet6'))];
}
